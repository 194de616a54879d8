# Varnish (6.6 or newer; tried with 7.1) in front of a Headwater origin or edge.
#
# Cached: what is public and says so. Chunks and manifests never change; pointers are good for five
# seconds and are dropped at once when the origin says that a channel rolled or trust moved
# (origin/purge_hook.py). Everything else passes: prompts, administration, the facades of stock
# clients, event streams. docs/how-to/cdn.md tells how to install and check it.
vcl 4.1;

import std;

include "site.vcl";

sub vcl_recv {
    # Nobody may bring what is set here.
    unset req.http.Headwater-Expected-Secret;
    unset req.http.Headwater-Kind;
    unset req.http.Headwater-Encoding;

    if (req.method == "BAN" || req.method == "PURGE") {
        call headwater_purge;
    }
    unset req.http.Headwater-Purge;
    unset req.http.Headwater-Purge-Secret;
    unset req.http.Headwater-Refresh;
    unset req.http.Headwater-Hard;

    if (req.url ~ "^/artifacts/events(\?|$)" || req.url ~ "^/(v1|console)/") {
        # Streams may be silent for minutes and last for hours.
        set req.http.Headwater-Kind = "stream";
        set sess.send_timeout = 86400s;
        set sess.idle_send_timeout = 600s;
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    if (req.url ~ "^/artifacts/chunks/") {
        set req.http.Headwater-Kind = "chunk";
    } else if (req.url ~ "^/artifacts/(channels|trust)/" || req.url ~ "^/artifacts/takedowns(\?|$)") {
        set req.http.Headwater-Kind = "pointer";
    } else if (req.url ~ "^/artifacts/(manifests|files)/") {
        set req.http.Headwater-Kind = "revision";
        if (req.http.Authorization) {
            # May be private: what is asked for with a token is neither kept nor given from here.
            return (pass);
        }
    } else if (req.url ~ "^/assets/") {
        set req.http.Headwater-Kind = "asset";
        if (req.http.Authorization) {
            return (pass);
        }
        call headwater_encoding;
        if (req.http.Headwater-Encoding == "weighed"
            || (req.http.If-Range && req.http.Headwater-Encoding)) {
            # Rare, and up to the backend.
            return (pass);
        }
        if (req.http.Range) {
            # A part is one of the file as it is.
            unset req.http.Headwater-Encoding;
        }
    } else {
        return (pass);
    }

    # What cannot change the answer must not split the cache.
    unset req.http.Authorization;
    unset req.http.Cookie;
    if (req.http.Headwater-Kind != "asset") {
        unset req.http.Accept-Encoding;
    }
    if (req.url ~ "^/artifacts/(trust/bundle|takedowns)\?(.*&)?(root|since)=") {
        set req.url = regsub(req.url, "\?(?:.*&)?((?:root|since)=[^&]*).*$", "?\1");
    } else if (req.http.Headwater-Kind != "asset") {
        set req.url = regsub(req.url, "\?.*$", "");
    }
    # Old pointers are given where the backend is known to be down or has just failed, for a day
    # (stale-if-error), and not while all is well: stale-while-revalidate would allow 30 s, but a roll
    # should be seen within max-age, and whoever waits for the renewal waits together with all others.
    if (std.healthy(req.backend_hint) && req.restarts == 0) {
        set req.grace = 0s;
    } else {
        set req.grace = 86400s;
    }
    return (hash);
}

# Which compressed forms of a static file a client takes, in one spelling for all who take the same.
sub headwater_encoding {
    std.collect(req.http.Accept-Encoding);
    if (req.http.Accept-Encoding ~ "[;*]") {
        set req.http.Headwater-Encoding = "weighed";
        return;
    }
    if (req.http.Accept-Encoding ~ "(?i)(^|[ ,\t])br([ ,\t]|$)") {
        set req.http.Headwater-Encoding = "br, ";
    }
    if (req.http.Accept-Encoding ~ "(?i)(^|[ ,\t])zstd([ ,\t]|$)") {
        set req.http.Headwater-Encoding = req.http.Headwater-Encoding + "zstd, ";
    }
    if (req.http.Accept-Encoding ~ "(?i)(^|[ ,\t])gzip([ ,\t]|$)") {
        set req.http.Headwater-Encoding = req.http.Headwater-Encoding + "gzip, ";
    }
}

# A purge by surrogate keys (BAN) or of one URL (PURGE).
sub headwater_purge {
    call headwater_site;
    if (client.ip !~ headwater_purgers
        || req.http.Headwater-Expected-Secret == "replace-me"
        || req.http.Headwater-Purge-Secret != req.http.Headwater-Expected-Secret) {
        return (synth(403, "Not allowed to purge"));
    }
    if (req.method == "PURGE") {
        return (purge);
    }
    if (req.http.Headwater-Purge == "*") {
        if (!std.ban("obj.http.Surrogate-Key ~ .")) {
            return (synth(500, "Ban failed"));
        }
        return (synth(200, "Banned"));
    }
    # Keys hold no character that means something in a pattern but the dot.
    if (req.http.Headwater-Purge !~ "^[A-Za-z0-9:@._-]+([|][A-Za-z0-9:@._-]+)*$") {
        return (synth(400, "No surrogate keys"));
    }
    # On obj only, so that the ban lurker can test and drop what is banned by itself.
    # A static file has two keys, with a space between.
    if (!std.ban("obj.http.Surrogate-Key ~ (^|[^!-~])("
                 + regsuball(req.http.Headwater-Purge, "[.]", "[.]") + ")([^!-~]|$)")) {
        return (synth(500, "Ban failed"));
    }
    return (synth(200, "Banned"));
}

sub vcl_hash {
    # The same bytes under every name that this cache is known by.
    # The query of a static file is the page's own matter; a redirect must not lose it.
    if (req.url ~ "^/assets/") {
        hash_data(regsub(req.url, "\?.*$", ""));
        hash_data(req.http.Headwater-Encoding);
    } else {
        hash_data(req.url);
    }
    return (lookup);
}

sub vcl_miss {
    # A piece out of the middle of a large file must not wait for all that lies before it. From the
    # first byte on it is the whole file, and kept (if it is not too large to keep).
    if (req.url ~ "^/(artifacts/files|assets)/" && req.http.Range && req.http.Range !~ "^bytes=0-$") {
        return (pass);
    }
}

sub vcl_backend_fetch {
    if (bereq.http.Headwater-Kind == "stream") {
        set bereq.first_byte_timeout = 600s;
        set bereq.between_bytes_timeout = 600s;
    }
    if (bereq.http.Headwater-Kind == "asset" && bereq.http.Headwater-Encoding != "weighed"
        && !bereq.http.Authorization) {
        # Varnish itself would ask for gzip alone.
        set bereq.http.Accept-Encoding = bereq.http.Headwater-Encoding;
    }
    unset bereq.http.Headwater-Encoding;
    unset bereq.http.Headwater-Kind;
    unset bereq.http.Headwater-Expected-Secret;
}

sub vcl_backend_response {
    # Bytes leave as they come, also while they are being stored.
    set beresp.do_stream = true;
    if (bereq.uncacheable) {
        return (deliver);
    }
    if (beresp.status >= 500
        && (bereq.is_bgfetch || bereq.url ~ "^/(artifacts/(channels|trust|takedowns)|assets/)")) {
        # The stale answer was given already, or will be (vcl_synth), and stays.
        return (abandon);
    }
    if (beresp.status != 200) {
        # No error is kept. For a moment, nobody waits for somebody else's.
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
        return (deliver);
    }
    if (beresp.http.Cache-Control !~ "(?i)(^|[ ,])public([ ,]|$)"
        || beresp.http.Cache-Control ~ "(?i)(private|no-store|no-cache)"
        || beresp.http.Vary ~ "(?i)(authorization|\*)") {
        set beresp.uncacheable = true;
        set beresp.ttl = 120s;
        return (deliver);
    }
    if (std.integer(beresp.http.Content-Length, 0) > 268435456) {
        # Larger than what should fall out of the cache for it: asked for in pieces from now on.
        return (pass(1h));
    }
    if (bereq.url ~ "^/(artifacts/(channels|trust|takedowns)|assets/)") {
        set beresp.grace = 86400s;
    } else {
        set beresp.grace = 0s;
    }
    set beresp.keep = 86400s;
    return (deliver);
}

sub vcl_deliver {
    # Varnish knows a single entity tag, not a list of them (RFC 9110 section 13.1.2).
    if (req.http.If-None-Match ~ "," && resp.http.ETag
        && std.strstr(req.http.If-None-Match, resp.http.ETag)) {
        set req.http.If-None-Match = resp.http.ETag;
    }
    if (obj.uncacheable) {
        set resp.http.X-Cache = "PASS";
        set resp.http.Headwater-Cache-Status = "varnish; fwd=bypass";
    } else if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
        set resp.http.Headwater-Cache-Status = "varnish; hit";
    } else {
        set resp.http.X-Cache = "MISS";
        set resp.http.Headwater-Cache-Status = "varnish; fwd=miss; stored";
    }
    # An edge behind this says what it did first (RFC 9211 section 2).
    if (resp.http.Cache-Status) {
        set resp.http.Cache-Status = resp.http.Cache-Status + ", " + resp.http.Headwater-Cache-Status;
    } else {
        set resp.http.Cache-Status = resp.http.Headwater-Cache-Status;
    }
    unset resp.http.Headwater-Cache-Status;
    unset resp.http.X-Varnish;
    return (deliver);
}

sub vcl_synth {
    # The backend failed: once more, and this time an old answer is good enough.
    if (resp.status >= 500 && req.restarts == 0
        && req.url ~ "^/(artifacts/(channels|trust|takedowns)|assets/)" && req.method == "GET") {
        return (restart);
    }
    set resp.http.Cache-Control = "no-store";
    set resp.http.Content-Type = "application/problem+json";
    set resp.body = {"{"status": "} + resp.status + {", "code": "cdn", "detail": ""} + resp.reason + {"" }"};
    return (deliver);
}

sub vcl_backend_error {
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Content-Type = "application/problem+json";
    set beresp.ttl = 0s;
    set beresp.uncacheable = true;
    set beresp.body = {"{"status": "} + beresp.status + {", "code": "source_unavailable", "detail": "the cache cannot reach its upstream" }"};
    return (deliver);
}
