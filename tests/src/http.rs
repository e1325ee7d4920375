//! Requests to the small HTTP servers of a test, on loopback.
//!
//! Never keeps a connection, never follows a redirect. Always: HTTP/1.0, so that a body ends with its connection.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a page: its status and body.
///
/// # Errors
/// When nobody listens, or the answer is no HTTP.
pub fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
}

/// Posts a body.
///
/// # Errors
/// As [`get`].
pub fn post(address: &str, path: &str, kind: &str, body: &str) -> Result<(u16, String), String> {
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {kind}\r\n");
    ask(address, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// Asks for a page of JSON that must be there.
///
/// # Errors
/// When it is not there.
pub fn get_json(address: &str, path: &str) -> Result<Value, String> {
    let (status, body) = get(address, path)?;
    if status != 200 {
        return Err(format!("http://{address}{path} answers {status}: {body}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("http://{address}{path}: {error}: {body}"))
}

/// A text as part of a query string.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("write to a string");
        }
    }
    encoded
}

/// A port of loopback that nobody listens at now.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address").port()
}

fn ask(address: &str, request: &str) -> Result<(u16, String), String> {
    let failed = |error: &dyn std::fmt::Display| format!("http://{address}: {error}");
    let socket: SocketAddr = address.parse().map_err(|error| failed(&error))?;
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE).map_err(|error| failed(&error))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(&error))?;
    stream.write_all(request.as_bytes()).map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| failed(&error))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(&"no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| failed(&"no HTTP status"))?, body.to_owned()))
}
