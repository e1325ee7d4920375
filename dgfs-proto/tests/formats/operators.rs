//! One value of every message between operators and daemons.

use dgfs_proto::status::Status;
use dgfs_proto::watch::{
    DirectoryFacts, Facts, LogLevel, LogPage, LogQuery, LogRecord, LogValue, WatchCall, WatchReply, WatchRequest,
};

const fn request_name(request: &WatchRequest) -> &'static str {
    match request {
        WatchRequest::Logs(_) => "Logs",
        WatchRequest::Facts => "Facts",
        WatchRequest::Metrics => "Metrics",
    }
}

const fn reply_name(reply: &WatchReply) -> &'static str {
    match reply {
        WatchReply::Logs(_) => "Logs",
        WatchReply::Facts(_) => "Facts",
        WatchReply::Metrics => "Metrics",
        WatchReply::Refused(_) => "Refused",
    }
}

pub(crate) fn watch_calls() -> Vec<(String, WatchCall)> {
    let query = LogQuery { after: 1 << 40, since_us: 7, request: Some(u64::MAX), level: LogLevel::Warn, limit: 4096 };
    let all = [WatchRequest::Logs(query), WatchRequest::Facts, WatchRequest::Metrics];
    let call = |request| WatchCall { request_id: 0x0123_4567_89ab_cdef, request };
    all.into_iter().map(|request| (request_name(&request).to_owned(), call(request))).collect()
}

pub(crate) fn watch_replies() -> Vec<(String, WatchReply)> {
    let fields = vec![
        ("text".to_owned(), LogValue::Text("words".to_owned())),
        ("unsigned".to_owned(), LogValue::Unsigned(u64::MAX)),
        ("signed".to_owned(), LogValue::Signed(-5)),
        ("real".to_owned(), LogValue::Real(0.5)),
        ("truth".to_owned(), LogValue::Truth(true)),
    ];
    let record = LogRecord {
        number: 9,
        at_us: 1 << 50,
        level: LogLevel::Error,
        request: 3,
        target: "dgfs_meta".to_owned(),
        message: "a sentence".to_owned(),
        fields,
    };
    let facts = Facts {
        part: "stored".to_owned(),
        version: "0.1.0".to_owned(),
        host: "h".to_owned(),
        pid: 70_000,
        started_us: 1,
        now_us: 2,
        descriptors_max: 1024,
        descriptors: 17,
        resident_bytes: 1 << 33,
        certificate_until_s: -1,
        directory: Some(DirectoryFacts { path: "/d".to_owned(), capacity_bytes: 5, free_bytes: 4, read_only: true }),
        config: vec![("log.level".to_owned(), "info".to_owned())],
    };
    let all = [
        WatchReply::Logs(LogPage { records: vec![record], until: 9, more: true, forgotten: 2 }),
        WatchReply::Facts(Box::new(facts)),
        WatchReply::Metrics,
        WatchReply::Refused(Status::Malformed),
    ];
    all.into_iter().map(|reply| (reply_name(&reply).to_owned(), reply)).collect()
}
