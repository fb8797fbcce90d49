//! The OCF agent `ocf:berth:vserver`.

fn main() {
    berth::agent::main(&berth::agent::vserver::AGENT)
}
