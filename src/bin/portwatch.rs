//! The OCF agent `ocf:berth:portwatch`.

fn main() {
    berth::agent::main(&berth::agent::portwatch::AGENT)
}
