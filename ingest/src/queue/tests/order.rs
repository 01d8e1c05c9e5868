//! Groups, priorities, tenants.

use super::*;
use brigade_index::command::Fairness;

fn grouped<'a>(group: &'a str, value: &'a str) -> Sent<'a> {
    Sent { attributes: Attributes { group: Some(group), ..Attributes::default() }, ..plain(value) }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_delivered_one_by_one_and_holds_up_no_other() {
    let world = world_with(2, QueueSettings { ordered: true, ..QueueSettings::default() });
    world.publish(&[grouped("a", "a1"), grouped("a", "a2"), grouped("b", "b1"), grouped("a", "a3")]).await;
    let keyed = Sent { key: Some("c"), ..plain("c1") };
    world.publish(&[keyed, Sent { value: "c2", ..keyed }, plain("free1"), plain("free2")]).await;
    let mut first = world.poll_now().await;
    first.sort_by(|a, b| a.value.cmp(&b.value));
    assert_eq!(values(&first), ["a1", "b1", "c1", "free1", "free2"]);
    assert_eq!(world.poll_now().await, []);
    world.ack(&first[0]).await.unwrap();
    let second = world.poll_now().await;
    assert_eq!(values(&second), ["a2"]);
    // A first message that waits keeps its group waiting.
    world.settle(Action::Nack { delay: Some(Duration::from_secs(5)) }, &[&second[0]]).await;
    assert_eq!(world.poll_now().await, []);
    let again = world.poll(9, Duration::from_secs(9)).await;
    assert_eq!((values(&again), again[0].deliveries), (vec!["a2"], 2));
    world.settle(Action::Reject, &[&again[0]]).await;
    assert_eq!(values(&world.poll_now().await), ["a3"]);
}

#[tokio::test(start_paused = true)]
async fn order_in_a_group_holds_over_a_new_task() {
    let world = world(QueueSettings { ordered: true, ..QueueSettings::default() });
    world.publish(&[grouped("a", "a1"), grouped("a", "a2")]).await;
    let first = world.poll_now().await;
    assert_eq!(values(&first), ["a1"]);
    world.queue.begin_again().await;
    let again = world.poll_now().await;
    assert_eq!(values(&again), ["a1"]);
    assert_eq!(world.poll_now().await, []);
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::Superseded));
    world.ack(&again[0]).await.unwrap();
    assert_eq!(values(&world.poll_now().await), ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_come_first_however_late_they_were_published() {
    let world = world(QueueSettings::default());
    let sent = |value, priority| Sent { attributes: Attributes { priority, ..Attributes::default() }, ..plain(value) };
    world.publish(&[sent("low", Some(0)), sent("plain", None)]).await;
    world.publish(&[sent("high", Some(9)), sent("mid", Some(5))]).await;
    assert_eq!(values(&world.poll(1, Duration::ZERO).await), ["high"]);
    assert_eq!(values(&world.poll(2, Duration::ZERO).await), ["mid", "plain"]);
    assert_eq!(values(&world.poll_now().await), ["low"]);
}

#[tokio::test(start_paused = true)]
async fn tenants_take_turns() {
    let fairness = Fairness::Header("tenant".to_owned());
    let world = world(QueueSettings { fairness, ..QueueSettings::default() });
    let sent = |value, headers| Sent { headers, ..plain(value) };
    let (noisy, quiet): (&[_], &[_]) = (&[("tenant", "noisy")], &[("tenant", "quiet")]);
    world.publish(&["n1", "n2", "n3", "n4"].map(|value| sent(value, noisy))).await;
    world.publish(&["q1", "q2"].map(|value| sent(value, quiet))).await;
    assert_eq!(values(&world.poll_now().await), ["n1", "q1", "n2", "q2", "n3", "n4"]);
}
