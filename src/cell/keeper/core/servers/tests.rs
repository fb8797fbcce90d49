use super::*;
use crate::cell::service::SmbShare;

fn share(directory: &str, name: &str) -> Export {
    Export {
        directory: directory.to_owned(),
        xfs: None,
        nfs: None,
        smb: Some(SmbShare {
            name: name.parse().unwrap(),
            users: vec![],
            read_only: false,
        }),
    }
}

fn running(exports: &[Export]) -> Servers {
    let member = Member {
        resource: "alpha".into(),
        node: None,
    };
    let spec = ServerSpec {
        name: "alpha".into(),
        nfs: false,
        smb: true,
        commands: vec![],
        state: PathBuf::from("/state"),
        lease: ServerSpec::LEASE,
        grace: ServerSpec::GRACE,
        config_dir: None,
        cgroup: Default::default(),
        limits: Default::default(),
        allow_calls: vec![],
    };
    let mut servers = Servers::new(member, spec, None);
    servers.phase = Phase::Running;
    servers.applied = exports.to_vec();
    servers
}

/// The last words of the commands that are run to change the exports to these; then all orders are done.
fn told(servers: &mut Servers, exports: &[Export]) -> Vec<String> {
    servers.change(exports);
    let orders = std::mem::take(&mut servers.steps).into_iter().flatten();
    servers.applied = servers.target.clone();
    orders
        .filter_map(|order| match order {
            Order::Run { argv, .. } => argv.last().cloned(),
            _ => None,
        })
        .collect()
}

#[test]
fn users_of_a_share_that_went_are_thrown_out_until_that_has_succeeded() {
    let (one, other) = (share("/one", "one"), share("/other", "other"));
    let mut servers = running(&[one.clone(), other]);
    let kept = [one];
    assert_eq!(told(&mut servers, &kept), ["reload-config", "other"]);
    for _ in 0..2 {
        servers.trouble = Some("on purpose".to_owned());
        assert_eq!(told(&mut servers, &kept), ["reload-config", "other"]);
    }
    servers.trouble = Some("on purpose".to_owned());
    assert_eq!(told(&mut servers, &[]), ["reload-config", "one", "other"]);
    assert_eq!(told(&mut servers, &kept), ["reload-config"]);
}
