# What differs from one installation to the next. default.vcl includes this file by name, so keep it
# in a folder of vcl_path (-p vcl_path=/etc/varnish), readable by Varnish only: it holds a secret.

# The origin, or an edge.
backend headwater {
    .host = "127.0.0.1";
    .port = "7400";
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
    .max_connections = 512;
    .probe = {
        .url = "/readyz";
        .interval = 5s;
        .timeout = 2s;
        .window = 4;
        .threshold = 2;
        .initial = 2;
    }
}

# Who may purge: the origin. The secret is asked for as well.
acl headwater_purgers {
    "127.0.0.1";
    "::1";
}

# The content of the origin's purge token file (token_file of [[origin.purge.targets]]).
sub headwater_site {
    set req.http.Headwater-Expected-Secret = "replace-me";
}
