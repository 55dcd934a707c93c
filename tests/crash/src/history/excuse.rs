//! Which errors a fault explains. Whatever is not named here was refused without a reason.

use super::{Fault, History, Refusal};

/// Answers that never came, and what clients do to their own records when they abort or give themselves up.
const OF_ANY_FAULT: &[&str] = &[
    // librdkafka
    "BrokerTransportFailure",
    "AllBrokersDown",
    "MessageTimedOut",
    "OperationTimedOut",
    "RequestTimedOut",
    "PurgeInflight",
    "PurgeQueue",
    // Java
    "DisconnectException",
    "NetworkException",
    "TimeoutException",
    "TransactionAbortedException",
    // kafka-go
    "network",
];

/// On a disk that is full, or has failed and ended the process.
const OF_POWER_CUTS: &[&str] = &["KafkaStorageError", "KafkaStorageException"];

/// What a producer gets for an answer once another has taken its place.
const OF_REPLACED: &[&str] = &[
    "Fenced",
    "InvalidProducerEpoch",
    "ProducerFenced",
    "InvalidProducerEpochException",
    "ProducerFencedException",
];

pub(crate) fn is_excused(history: &History, refusal: &Refusal) -> bool {
    let error = refusal.error.as_str();
    let is_replaced =
        || history.refusals.keys().any(|other| other.fatal && other.producer == refusal.producer);
    OF_ANY_FAULT.contains(&error)
        || history.fault == Fault::PowerCut && OF_POWER_CUTS.contains(&error)
        || OF_REPLACED.contains(&error) && !refusal.fatal && is_replaced()
}
