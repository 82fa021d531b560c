"""The environment variables that Dockhand's packages read, with their meanings."""

from __future__ import annotations

from dockhand_webhook.environment import _VARIABLES as RECEIVER

from dockhand_core.config.environment import _FLAT_NAMES, _OTHER_NAMES

# The meanings of variables that set no key of a connection.
_MEANINGS = {
    "DOCKHAND_CONNECTION": "name of the default connection",
    "DOCKHAND_CONFIG": "path of the configuration, instead of `dockhand.toml` in the "
    "working folder",
    "DOCKHAND_DISABLE_PLUGINS": (
        "names of plugins, or of their packages, that are not imported, separated by commas"
    ),
    "DOCKHAND_STRICT_PLUGINS": (
        "`true`: an installed plugin that cannot be loaded is an error, and not only a warning"
    ),
    "DOCKHAND_NOTIFY_TOKEN": (
        "a token that registries may send to the receiver; `DOCKHAND_NOTIFY_TOKEN_FILE` names a "
        "file with the token. The embedded registry sends it with its notifications"
    ),
    "DOCKHAND_NOTIFICATIONS_ROUTE": "path of the receiver, instead of `/dockhand/notify`",
    "DOCKHAND_NOTIFICATIONS_ENABLED": (
        "`false` removes the receiver's path; events in the inbox are still delivered"
    ),
}
_OTHERS = {
    "HTTPS_PROXY": "proxy for `https` URLs, if the connection has no `proxy`",
    "HTTP_PROXY": "proxy for `http` URLs",
    "ALL_PROXY": "proxy for all URLs",
    "NO_PROXY": "hosts that are reached without a proxy, separated by commas",
    "SSL_CERT_FILE": "CA certificates for all connections without `verify`",
    "SSL_CERT_DIR": "a folder with CA certificates, in the same way",
    "DOCKER_CONFIG": "folder of docker's `config.json`, for the auth driver `token`",
    "REGISTRY_AUTH_FILE": "podman's file of credentials, for the auth driver `token`",
    "FORWARDED_ALLOW_IPS": "proxies whose `X-Forwarded-For` the servers trust",
    "NO_COLOR": "no colours in the output of the command `dockhand`",
}


def names() -> list[str]:
    """The names of all variables that begin with `DOCKHAND_`, without the nested form."""
    return [*_FLAT_NAMES, *sorted(_OTHER_NAMES), *RECEIVER]


def environment() -> str:
    """Make the page of all environment variables."""
    lines = [
        "# Environment",
        "",
        (
            "This page is made from the code. `Dockhand()`, the servers and the command `dockhand` "
            "read these variables; `Dockhand({…})` and `connect(…)` read none of them. They "
            "override "
            "`dockhand.toml`. A misspelt name is an error."
        ),
        "",
        "## The default connection",
        "",
        "| Variable | Sets |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | `{'.'.join(path)}` |" for name, path in _FLAT_NAMES.items()]
    lines += [
        "",
        (
            "Each of them may end in `_FILE`, if the setting is a secret: "
            "`DOCKHAND_PASSWORD_FILE` is "
            "the path of a file with the password. If a variable names another registry than "
            "the file, "
            "the file's credentials of that connection are dropped, and not sent to that registry: "
            "`auth`, `headers`, the client certificate, and the driver's own secrets."
        ),
        "",
        "## Any connection",
        "",
        (
            "`DOCKHAND_CONNECTIONS__<NAME>__<KEY>` sets a key of any connection, and "
            "`DOCKHAND_CONNECTIONS__<NAME>__AUTH__<KEY>` one of its table `auth`. Names of "
            "connections "
            "are written in upper case, with `_` for `-` and `.`:"
        ),
        "",
        "```sh",
        "export DOCKHAND_CONNECTIONS__STAGING__BASE_URI=https://staging.example.com",
        "export DOCKHAND_CONNECTIONS__STAGING__AUTH__DRIVER=basic",
        "export DOCKHAND_CONNECTIONS__STAGING__AUTH__USERNAME=alice",
        "export DOCKHAND_CONNECTIONS__STAGING__AUTH__PASSWORD_FILE=/run/secrets/staging",
        "```",
        "",
        "## Values",
        "",
        "A list or table in a variable is JSON. These variables and this table mean the same:",
        "",
        "```sh",
        """export DOCKHAND_CONNECTIONS__STAGING__HEADERS='{"X-Team": "ci"}'""",
        """export DOCKHAND_CONNECTIONS__STAGING__AUTH__COMMAND='["pass", "show", "staging"]'""",
        "```",
        "",
        "```toml",
        "[connections.staging]",
        'headers = { "X-Team" = "ci" }',
        'auth.command = ["pass", "show", "staging"]',
        "```",
        "",
        (
            "A relative path in a variable `…_FILE` starts at the working folder. A relative path "
            "in the file, and one in a variable for another setting, such as `VERIFY`, starts at "
            "the folder of `dockhand.toml`."
        ),
        "",
        "An error in a value begins with the name of the variable.",
        "",
        "## Precedence",
        "",
        (
            "- A variable overrides the same key of the file. Short names, such as "
            "`DOCKHAND_PASSWORD`, override the long form."
        ),
        (
            "- `<KEY>` and `<KEY>_FILE` are one setting: a variable for one of them replaces both "
            "keys of the file. Both in the environment are an error."
        ),
        (
            "- A variable that names another driver than the file drops the file's settings of "
            "that driver; for `AUTH__DRIVER`, the file's table `auth`."
        ),
        (
            "- Other keys of the file stay as they are. If a driver has alternatives, such as "
            "`key` and `key_command`, a variable `KEY` does not remove `key_command` from the "
            "settings. Set `KEY_COMMAND='[]'`, too: an empty list is none."
        ),
        "",
        "## Plugins",
        "",
        (
            "`DOCKHAND_PLUGINS__<NAME>__<KEY>` sets a key of the table `[plugins.<name>]` of the "
            "plugin with this name; [Settings of plugins](../plugins/index.md#settings) has more. "
            "Names are written in upper case, with `_` for `-` and `.`. Each further `__` leads "
            "into a table, and a list or table may also be JSON text. The plugin converts a "
            "value, such as a number:"
        ),
        "",
        "```sh",
        "export DOCKHAND_PLUGINS__NOTIFIER__CHANNEL='#releases'",
        "export DOCKHAND_PLUGINS__NOTIFIER__TOKEN_FILE=/run/secrets/notifier",
        "```",
        "",
        "## The rest",
        "",
        "| Variable | |",
        "|---|---|",
    ]
    for name in names():
        if name not in _FLAT_NAMES:
            if name not in _MEANINGS:
                raise KeyError(f"_MEANINGS of {__file__} does not describe {name}")
            lines.append(f"| `{name}` | {_MEANINGS[name]} |")
    lines += [
        "",
        "## Variables of other programs",
        "",
        "| Variable | |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in _OTHERS.items()),
        "",
    ]
    return "\n".join(lines)
