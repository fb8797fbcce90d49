//! The OCF agent `ocf:berth:fscheck`.

fn main() {
    berth::agent::main(&berth::agent::fscheck::AGENT)
}
