//! The flow log.

use super::*;
use crate::flow_log::Action;

#[test]
fn a_flow_has_a_record_for_each_direction_when_it_ends() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let sent = rig.connect(40_000, REMOTE);
    rig.now = Instant::from_secs(9);
    rig.answer(&sent, flags::RST);
    let lines: Vec<String> = std::iter::from_fn(|| rig.engine.take_flow_record())
        .map(|record| record.line("123456789010", "eni-1235b8ca123456789", 1_418_530_000))
        .collect();
    assert_eq!(
        lines,
        [
            "2 123456789010 eni-1235b8ca123456789 10.0.0.4 203.0.113.9 1024 443 6 2 80 1418530001 1418530009 ACCEPT OK",
            "2 123456789010 eni-1235b8ca123456789 203.0.113.9 10.0.0.4 443 1024 6 2 80 1418530001 1418530009 ACCEPT OK",
        ]
    );
}

#[test]
fn flows_that_go_on_are_recorded_in_parts() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    (1..6).for_each(|port| drop(rig.connect(port, REMOTE)));
    assert!(!rig.engine.log_flows(4) && rig.engine.log_flows(4));
    let packets: u32 =
        std::iter::from_fn(|| rig.engine.take_flow_record()).map(|record| record.packets).sum();
    assert_eq!(packets, 15);
    assert!(rig.engine.log_flows(100));
    assert_eq!(rig.engine.take_flow_record(), None, "nothing has moved since");
}

#[test]
fn what_rules_reject_is_recorded_and_what_an_interface_drops_is_not() {
    let mut rig = Rig::new(&["nat.ports=0"]);
    rig.engine.keep_flow_records(true);
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(rig.engine.take_flow_record().map(|record| record.action), Some(Action::Accept));
    rig.engine.network.groups[0].egress.clear();
    assert_eq!(rig.leave(40_000, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::NoRule)));
    assert_eq!(rig.engine.take_flow_record().map(|record| record.action), Some(Action::Reject));
    let mut rig = Rig::new(&["eni.connections=0"]);
    rig.engine.keep_flow_records(true);
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(rig.engine.take_flow_record(), None);
    let board = rig.engine.board();
    assert!(board.iter().any(|row| row.id == LimitId::EniConnections && row.refused == 1));
}
