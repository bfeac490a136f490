//! What comes before a query: the header of the PROXY protocol, and the target of an HTTPS request.

pub(crate) fn holds(octets: &[u8]) {
    let (told, left) = rollcall::server::proxied(octets);
    assert!(left.len() <= octets.len() && octets.ends_with(left), "only what is in front is read");
    assert!(told.is_err() || octets.len() - left.len() <= 16 + usize::from(u16::MAX));
    if let Ok(target) = std::str::from_utf8(octets)
        && let Some(Ok(query)) = rollcall::server::asked_in_url(target)
    {
        assert!(query.len() <= rollcall::limits::STREAM_QUERY_MAX + 2, "{} octets", query.len());
    }
}
