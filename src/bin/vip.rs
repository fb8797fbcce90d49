//! The OCF agent `ocf:berth:vip`.

fn main() {
    berth::agent::main(&berth::agent::vip::AGENT)
}
