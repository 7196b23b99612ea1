"""Says what each parameter of libpq does here: it is honoured, has no effect by nature, or is refused.

The parameters are those of PostgreSQL 18 (manual, section 34.1.2), their variables those of section 34.15. A
parameter that would change which database is read, or how safely, is never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoexport.errors import ConfigurationError

HONOURED = frozenset({
    "service", "servicefile", "host", "hostaddr", "port", "dbname", "user", "password", "passfile",
    "connect_timeout", "options", "application_name", "fallback_application_name", "sslmode", "sslrootcert",
    "sslcert", "sslkey", "sslpassword", "target_session_attrs", "load_balance_hosts", "keepalives",
    "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
})  # fmt: skip
"""Each is translated for the driver or done here."""

WITHOUT_EFFECT = frozenset({"client_encoding", "sslcompression", "krbsrvname", "gsslib"})
"""Text always arrives as UTF-8, nothing is compressed, and GSSAPI is not used: any value is as good as another."""

_ACCEPTED: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"prefer", "disable"}),
    "gssencmode": frozenset({"prefer", "disable"}),
    "gssdelegation": frozenset({"0"}),
    "sslnegotiation": frozenset({"postgres"}),
    "sslsni": frozenset({"1"}),
    "sslcertmode": frozenset({"allow"}),
    # TLS 1.2 is the lowest that Python's `ssl` speaks by default.
    "ssl_min_protocol_version": frozenset({"TLSv1", "TLSv1.1", "TLSv1.2"}),
    "min_protocol_version": frozenset({"3.0"}),
    "max_protocol_version": frozenset({"3.0", "3.2", "latest"}),
    "replication": frozenset({"false", "off", "no", "0"}),
    "requirepeer": frozenset(),
    "require_auth": frozenset(),
    "sslcrl": frozenset(),
    "sslcrldir": frozenset(),
    "ssl_max_protocol_version": frozenset(),
    "scram_client_key": frozenset(),
    "scram_server_key": frozenset(),
    "sslkeylogfile": frozenset(),
    "oauth_issuer": frozenset(),
    "oauth_client_id": frozenset(),
    "oauth_client_secret": frozenset(),
    "oauth_scope": frozenset(),
    "oauth_ca_file": frozenset(),
}
"""The values that mean what is done anyway; every other one is refused, except an empty one."""

KNOWN = HONOURED | WITHOUT_EFFECT | _ACCEPTED.keys()

VARIABLES: Mapping[str, str] = {
    "PGSERVICE": "service", "PGSERVICEFILE": "servicefile", "PGHOST": "host", "PGHOSTADDR": "hostaddr",
    "PGPORT": "port", "PGDATABASE": "dbname", "PGUSER": "user", "PGPASSWORD": "password", "PGPASSFILE": "passfile",
    "PGCONNECT_TIMEOUT": "connect_timeout", "PGOPTIONS": "options", "PGAPPNAME": "application_name",
    "PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGSSLCERT": "sslcert", "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl", "PGSSLCRLDIR": "sslcrldir", "PGSSLNEGOTIATION": "sslnegotiation", "PGSSLSNI": "sslsni",
    "PGSSLCERTMODE": "sslcertmode", "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version", "PGCHANNELBINDING": "channel_binding",
    "PGREQUIREAUTH": "require_auth", "PGREQUIREPEER": "requirepeer", "PGGSSENCMODE": "gssencmode",
    "PGGSSDELEGATION": "gssdelegation", "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGLOADBALANCEHOSTS": "load_balance_hosts", "PGMINPROTOCOLVERSION": "min_protocol_version",
    "PGMAXPROTOCOLVERSION": "max_protocol_version",
}  # fmt: skip
"""The environment variables of libpq that stand for a parameter."""


def refuse_unsupported(parameters: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` for a parameter whose value would not be honoured."""
    for name, value in parameters.items():
        accepted = _ACCEPTED.get(name)
        if accepted is None or not value or value in accepted:
            continue
        fitting = f" A value that works: {', '.join(sorted(accepted))}." if accepted else ""
        raise ConfigurationError(
            f"The PostgreSQL parameter '{name}' is not supported with this value.",
            hint=f"Leave it out, also of the service file and of the environment.{fitting}",
        )
