//! What is added, kept and changed.

use super::{Cluster, EXAMPLE, FILE, VIPS, position, without_an_address};

pub(crate) fn refuses_without_fencing(cluster: &Cluster) {
    cluster.lab.write("n1", FILE, EXAMPLE).unwrap();
    cluster.good("crm_attribute --name stonith-enabled --update false");
    let before = cluster.good("cibadmin --query --scope resources");
    let refused = cluster.run(&format!("berth apply --file {FILE}"));
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        refused
            .stderr
            .starts_with("berth: the cluster property stonith-enabled is false")
    );
    assert_eq!(cluster.good("cibadmin --query --scope resources"), before);
    cluster.good("crm_attribute --name stonith-enabled --update true");
}

pub(crate) fn starts_everything_and_then_changes_nothing(cluster: &Cluster) {
    let said = cluster.apply(EXAMPLE);
    assert!(
        said.contains("+ resource alpha (ocf:berth:vserver)\n"),
        "{said}"
    );
    assert!(said.contains("all 11 resources started"), "{said}");
    let recorded = cluster.recorded();
    let start = |id: &str| position(&recorded, &format!("start {id}"));
    assert!(start("alpha-home") < start("alpha") && start("alpha") < start("alpha-ip1"));
    let said = cluster.apply(EXAMPLE);
    assert!(said.starts_with("no change\n"), "{said}");
    assert_eq!(
        cluster
            .run(&format!("berth diff --file {FILE}"))
            .status
            .code(),
        Some(0)
    );
    assert!(cluster.recorded().is_empty());
}

pub(crate) fn the_mark_of_an_earlier_version_becomes_the_tag_and_nothing_is_told(
    cluster: &Cluster,
) {
    cluster.begin(EXAMPLE);
    let tagged = cluster.good("cibadmin --query --xpath \"//tag[@id='berth']/obj_ref\" | grep -o ' id=\"[^\"]*' | cut -c6-");
    assert_eq!(tagged.lines().count(), 11, "{tagged}");
    let mark = "xargs -I ID crm_resource --meta --resource ID --set-parameter berth-managed --parameter-value true --force";
    cluster.lab.write("n1", "/run/tagged", &tagged).unwrap();
    cluster.good(&format!(
        "{mark} </run/tagged && cibadmin --delete --scope tags --xml-text '<tag id=\"berth\"/>'"
    ));
    let said = cluster.apply(EXAMPLE);
    assert!(said.contains("+ tag berth\n"), "{said}");
    let marks = said
        .lines()
        .filter(|l| l.ends_with(": meta berth-managed removed"));
    assert_eq!(marks.count(), 11, "{said}");
    assert_eq!(cluster.recorded(), [""; 0]);
    assert!(cluster.apply(EXAMPLE).starts_with("no change\n"));
}

pub(crate) fn a_changed_entry_touches_only_its_resource(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let said = cluster.apply(&without_an_address());
    assert!(
        said.contains("stopping beta-ip1\n- resource beta-ip1 (ocf:berth:vip)\n"),
        "{said}"
    );
    assert_eq!(cluster.recorded(), ["stop beta-ip1"]);
    // The address that stayed keeps its id, although it is now the first one.
    let other = EXAMPLE.replace(VIPS, r#"vips = ["10.2.0.60", "10.1.0.61"]"#);
    cluster.apply(&other);
    assert_eq!(cluster.recorded(), ["start beta-ip1"]);
}

pub(crate) fn a_busy_cluster_is_no_obstacle(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    // Whenever apply has read the CIB and works out a patch, the state changes before it is sent.
    let changing =
        "cd /usr/sbin && mv crm_diff crm_diff.real && cat >crm_diff <<'E' && chmod 755 crm_diff
#!/bin/sh
i=$(($(cat /run/noise 2>/dev/null || echo 0) + 1))
echo $i >/run/noise
attrd_updater --name noise --update $i
until cibadmin --query --scope status | grep -q \"name=.noise. value=.$i.\"; do sleep 0.02; done
exec /usr/sbin/crm_diff.real \"$@\"
E";
    cluster.good(changing);
    let said = cluster.apply(&without_an_address());
    assert!(
        said.contains("- resource beta-ip1 (ocf:berth:vip)\n"),
        "{said}"
    );
    assert_ne!(cluster.good("cat /run/noise").trim(), "");
    cluster.good("mv /usr/sbin/crm_diff.real /usr/sbin/crm_diff");
    assert_eq!(cluster.recorded(), ["stop beta-ip1"]);
}
