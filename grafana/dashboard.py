"""The dashboard, written as code: `python3 grafana/dashboard.py > grafana/hearthgate.json`.

Wants the package of `tests/real/requirements.txt` that is called grafana-foundation-sdk. `scripts/test` fails when the
file is not what comes out here, when a name in it is not one of the gate's, and when a query of it finds nothing.
"""

import itertools

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shown
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.units import (
    BytesIEC,
    BytesPerSecondIEC,
    Days,
    PercentUnit,
    RequestsPerSecond,
    Seconds,
    Short,
)

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GATE = 'instance=~"$instance"'
HOST = f'{GATE},host=~"$host"'
# How connections end every day: nobody was turned away.
ORDINARY = "keep_alive|http2_idle|requests_per_connection"
OUT_OF_THE_ORDINARY = f'{GATE},reason!~"{ORDINARY}"'
RATE = "[$__rate_interval]"

# The grid is 24 wide.
HALF, THIRD, QUARTER = 12, 8, 6


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from the lowest value up; the first is below all."""
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def words(**meanings: tuple[str, str]) -> list[model.ValueMapping]:
    """`v1=("up", "green")` shows the value 1 as `up`; `m1` is -1."""
    options = {
        name.replace("m", "-").replace("v", ""): model.ValueMappingResult(text=text, color=color, index=index)
        for index, (name, (text, color)) in enumerate(meanings.items())
    }
    return [model.ValueMap(options=options)]


def query(expression: str, legend: str = "", ref: str = "A") -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend or "__auto").range()


def figure(title: str, description: str, expression: str, *, unit: str = Short, width: int = 4) -> stat.Panel:
    """One number, and the colour that says whether to worry."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(4)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel = panel.color_mode(shown.BigValueColorMode.BACKGROUND).graph_mode(shown.BigValueGraphMode.NONE)
    return panel.thresholds(thresholds((None, "blue"))).with_target(query(expression))


def curves(title: str, description: str, *queries: tuple[str, str], unit: str = Short, width: int = THIRD) -> timeseries.Panel:
    """Lines over time, none below zero."""
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(8)
    legend = common.VizLegendOptions().display_mode(shown.LegendDisplayMode.LIST).show_legend(True)
    panel = panel.legend(legend.placement(shown.LegendPlacement.BOTTOM).calcs([]))
    panel = panel.tooltip(common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI).sort(shown.SortOrder.DESCENDING))
    panel = panel.min(0).line_width(1).fill_opacity(10).show_points(shown.VisibilityMode.NEVER)
    for index, (expression, legend_format) in enumerate(queries):
        panel = panel.with_target(query(expression, legend_format, "ABCDEFGH"[index]))
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(shown.StackingMode.NORMAL).group("A"))


def colours(panel: timeseries.Panel, **of: str) -> timeseries.Panel:
    """`failed="red"` gives one line its colour; `_5xx` is the line `5xx`."""
    for name, colour in of.items():
        fixed = [model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})]
        panel = panel.override_by_name(name.removeprefix("_"), fixed)
    return panel


def quantile(share: float, metric: str, labels: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{{labels}}}{RATE})))"


GREEN_AT_ZERO = thresholds((None, "green"), (1, "red"))
HEALTH = words(v1=("answers", "green"), v0=("does not answer", "red"), m1=("does not trust the gate", "orange"))
ALL_HEALTH = f"hearthgate_upstream_up{{{HOST}}} - hearthgate_upstream_distrusts_gate{{{HOST}}}"
LIFE_LEFT = (
    f"(hearthgate_tls_certificate_not_after_timestamp_seconds{{{HOST}}} - time())"
    f" / (hearthgate_tls_certificate_not_after_timestamp_seconds{{{HOST}}}"
    f" - hearthgate_tls_certificate_not_before_timestamp_seconds{{{HOST}}})"
)


def is_the_door_open() -> list:
    return [
        figure(
            "Up for",
            "How long the youngest of the gates chosen above has been running. Nothing here: Prometheus does not reach "
            "the gate; see whether it runs (`systemctl status hearthgate`) and whether `admin.listen` and the token are right.",
            f"min(time() - process_start_time_seconds{{{GATE}}} and on (instance) hearthgate_build_info)",
            unit=Seconds,
        ).no_value("no gate"),
        figure(
            "Home Assistant",
            "The worst of all hosts. `does not answer`: is it running, is the address right? `hearthgate status` says why. "
            "`does not trust the gate`: add the gate to its trusted proxies.",
            f"min({ALL_HEALTH})",
        ).mappings(HEALTH).thresholds(thresholds((None, "orange"), (0, "red"), (1, "green"))),
        figure(
            "Certificate lasts",
            "Days until the first certificate expires. Red in its last week: whoever renews it does not. `hearthgate "
            "status` and the gate's log say why.",
            f"min((hearthgate_tls_certificate_not_after_timestamp_seconds{{{HOST}}} - time()) / 86400)",
            unit=Days,
        ).decimals(0).thresholds(thresholds((None, "red"), (7, "orange"), (14, "green"))),
        figure(
            "Configuration",
            "`refused`: the file has a mistake, and what was in force before still is. `hearthgate check` says where.",
            f"min(hearthgate_config_last_reload_successful{{{GATE}}})",
        ).mappings(words(v1=("in force", "green"), v0=("refused", "red"))),
        figure(
            "WebSockets open",
            "Each open app or browser tab of Home Assistant holds one. None, while people are at home with their phones: "
            "try one, and look at the causes below.",
            f"sum(hearthgate_websockets_open{{{GATE}}})",
        ),
        figure(
            "Not written, last hour",
            "Lines of the access log that were dropped, and writes of bans, known devices and their like that failed. Not "
            "zero: is the disk full, or read-only? What is not written is lost at the next restart.",
            f"round(sum(increase(hearthgate_access_log_dropped_total{{{GATE}}}[1h]))"
            f" + sum(increase(hearthgate_state_write_errors_total{{{GATE}}}[1h])))",
        ).thresholds(GREEN_AT_ZERO),
        statetimeline.Panel()
        .title("Home Assistant")
        .description("How each host's upstream fared. The gate looks every half minute, and at every request.")
        .datasource(SOURCE)
        .span(HALF)
        .height(8)
        .mappings(HEALTH)
        .thresholds(thresholds((None, "orange"), (0, "red"), (1, "green")))
        .with_target(query(ALL_HEALTH, "{{host}}")),
        curves(
            "Certificates: life left",
            "Whoever renews begins at a third. Below that for a day: renewal fails; the gate's log says why. A step up is a "
            "renewal.",
            (LIFE_LEFT, "{{host}}"),
            unit=PercentUnit,
            width=HALF,
        ).max(1).thresholds(thresholds((None, "red"), (0.2, "orange"), (0.34, "transparent")))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(shown.GraphThresholdsStyleMode.AREA)),
        curves(
            "In hand",
            "Connections and requests now. Near `limits.connections` or `limits.requests`: see `Turned away`, and raise them "
            "only for real users.",
            (f"sum by (listener) (hearthgate_connections_open{{{GATE}}})", "connections, {{listener}}"),
            (f"sum(hearthgate_websockets_open{{{GATE}}})", "WebSockets"),
            (f"sum(hearthgate_requests_in_flight{{{GATE}}})", "requests"),
            width=QUARTER,
        ),
        curves(
            "TLS handshakes",
            "By version and outcome. `tls_name` are scanners that do not know the host's name. Many `client_certificate`: a "
            "device of a closed host lacks its certificate, or that has expired.",
            (f"sum by (version, outcome) (rate(hearthgate_tls_handshakes_total{{{GATE}}}{RATE})) > 0 or "
             f"sum(rate(hearthgate_tls_handshakes_total{{{GATE}}}{RATE}))", "{{version}} {{outcome}}"),
            unit=RequestsPerSecond,
            width=QUARTER,
        ),
        curves(
            "WebSockets opened and closed",
            "Why WebSockets ended. `client` is a closed tab. Steady `broken` or `upstream` without restarts: the network or "
            "Home Assistant. `login_refused`: an app with a token that is no longer good.",
            (f"sum(rate(hearthgate_websockets_opened_total{{{GATE}}}{RATE}))", "opened"),
            (f"sum by (cause) (rate(hearthgate_websockets_closed_total{{{GATE}}}{RATE})) > 0", "{{cause}}"),
            width=QUARTER,
        ),
        curves(
            "Certificates and names, last day",
            "Certificates that the gate asked an authority for, and addresses it sent to DNS providers. `failure` again and "
            "again: the gate's log has the other side's words. Nothing but zero where neither is configured.",
            (f"sum by (certificate, outcome) (increase(hearthgate_acme_orders_total{{{GATE}}}[1d])) or vector(0)",
             "certificate {{certificate}} {{outcome}}"),
            (f"sum by (name, outcome) (increase(hearthgate_dynamic_dns_updates_total{{{GATE}}}[1d])) or vector(0)",
             "address of {{name}} {{outcome}}"),
            width=QUARTER,
        ),
    ]


def who_knocks() -> list:
    failed = 'outcome="failed"'
    return [
        figure(
            "Banned now",
            "Networks under a ban. `hearthgate bans list` names them, `hearthgate bans remove` lifts one.",
            f"sum(hearthgate_bans_active{{{GATE}}})",
        ),
        figure(
            "Wrong guesses, last hour",
            "Passwords, codes and tokens that Home Assistant has refused. A few are people. Hundreds are an attack, which "
            "bans end by themselves: nothing to do, but a second factor is worth having.",
            f"round(sum(increase(hearthgate_login_attempts_total{{{GATE},{failed}}}[1h])))",
            width=5,
        ).thresholds(thresholds((None, "green"), (20, "orange"), (200, "red"))),
        figure(
            "Turned away, last hour",
            "Requests and connections that the gate refused, whatever for. See below for the reasons.",
            f"round(sum(increase(hearthgate_denials_total{{{OUT_OF_THE_ORDINARY}}}[1h])))",
            width=5,
        ),
        figure(
            "Known devices",
            "Devices that have proven a session: no neighbour's failures reach them.",
            f"sum(hearthgate_known_devices{{{GATE}}})",
            width=5,
        ),
        figure(
            "Homes banned",
            "Addresses of known devices that are under a ban. Not zero: somebody at home, or at the office, mistyped too "
            "often. Their known devices still come in; `hearthgate bans list`, then `hearthgate bans remove ADDRESS`.",
            f"sum(hearthgate_banned_homes{{{GATE}}})",
            width=5,
        ).thresholds(GREEN_AT_ZERO),
        colours(stacked(curves(
            "Attempts to log in",
            "How attempts ended. `refused` had to wait: Home Assistant has not heard of them. `revoked` is a token that was "
            "good once, as of a device that was signed out.",
            (f"sum by (outcome) (increase(hearthgate_login_attempts_total{{{GATE}}}{RATE}))", "{{outcome}}"),
            width=HALF,
        )), succeeded="green", failed="red", refused="orange", revoked="purple", abandoned="yellow", unjudged="blue"),
        curves(
            "Wrong guesses by kind",
            "What was guessed. `bearer` and `websocket` are tokens: an old app at home looks like that, and is not banned for "
            "repeating itself.",
            (f"sum by (kind) (increase(hearthgate_login_attempts_total{{{GATE},{failed}}}{RATE}))", "{{kind}}"),
            width=HALF,
        ),
        stacked(curves(
            "Turned away",
            "By reason; the README lists what each means and which key of the configuration it goes by. `rate_limit` of real "
            "users: raise `guard.rate_limits`. `connections` or `requests`: a flood, or limits that are too low.",
            (f"sum by (reason) (rate(hearthgate_denials_total{{{OUT_OF_THE_ORDINARY}}}{RATE})) > 0 or "
             f"sum(rate(hearthgate_denials_total{{{OUT_OF_THE_ORDINARY}}}{RATE}))", "{{reason}}"),
            unit=RequestsPerSecond,
            width=HALF,
        )),
        curves(
            "Refused by the guard, by host",
            "What the guard refused at each host, and what a `dry_run` kept it from refusing: only the former is felt.",
            (f"sum by (host, reason) (rate(hearthgate_guard_refusals_total{{{HOST}}}{RATE})) or vector(0)", "{{host}} {{reason}}"),
            (f"sum by (host, reason) (rate(hearthgate_guard_dry_run_total{{{HOST}}}{RATE})) or vector(0)", "dry run: {{host}} {{reason}}"),
            width=HALF,
        ),
        curves(
            "Bans",
            "Bans as they begin, and as they end by themselves or by `hearthgate bans remove`.",
            (f"sum by (cause) (increase(hearthgate_bans_total{{{GATE}}}{RATE}))", "begun: {{cause}}"),
            (f"sum(increase(hearthgate_bans_expired_total{{{GATE}}}{RATE}))", "ended"),
            (f"sum(increase(hearthgate_bans_lifted_total{{{GATE}}}{RATE}))", "lifted"),
            width=HALF,
        ),
        curves(
            "The guard's memory",
            "How full each store is; all together stay below 64 MiB. At 100 % the least important entries go first, which is "
            "what the stores are for; if it lasts, an attack comes from more addresses than the gate can tell apart.",
            (f"max by (store) (hearthgate_guard_entries{{{GATE}}} / hearthgate_guard_capacity{{{GATE}}})", "{{store}}"),
            unit=PercentUnit,
            width=HALF,
        ).max(1),
    ]


def how_does_it_feel() -> list:
    return [
        figure(
            "Requests",
            "Requests a second, over the last minutes.",
            f"sum(rate(hearthgate_requests_total{{{HOST}}}{RATE}))",
            unit=RequestsPerSecond,
            width=6,
        ).graph_mode(shown.BigValueGraphMode.AREA),
        figure(
            "95 of 100 are done within",
            "Streams and downloads count to their end. Slow for a while: compare with the upstream's own time below.",
            quantile(0.95, "hearthgate_request_duration_seconds", HOST),
            unit=Seconds,
            width=6,
        ).thresholds(thresholds((None, "green"), (1, "orange"), (5, "red"))),
        figure(
            "Failed",
            "The share of requests that ended with a 5xx: behind the gate something is wrong, or it is overloaded.",
            f'sum(rate(hearthgate_requests_total{{{HOST},code="5xx"}}{RATE}) or vector(0))'
            f" / clamp_min(sum(rate(hearthgate_requests_total{{{HOST}}}{RATE})), 1e-9)",
            unit=PercentUnit,
            width=6,
        ).thresholds(thresholds((None, "green"), (0.01, "orange"), (0.05, "red"))),
        figure(
            "The gate itself adds",
            "To 95 of 100 requests at most. Normally well below a millisecond; more: the machine is busy.",
            quantile(0.95, "hearthgate_gate_duration_seconds", GATE),
            unit=Seconds,
            width=6,
        ).thresholds(thresholds((None, "green"), (0.01, "orange"), (0.1, "red"))),
        curves(
            "Time to the end of the answer",
            "Of each hundred, 50, 95 and 99 are done within this time.",
            (quantile(0.5, "hearthgate_request_duration_seconds", HOST), "50"),
            (quantile(0.95, "hearthgate_request_duration_seconds", HOST), "95"),
            (quantile(0.99, "hearthgate_request_duration_seconds", HOST), "99"),
            unit=Seconds,
        ),
        curves(
            "Where the time goes",
            "Until the head of the upstream's answer, and what the gate adds: the former is Home Assistant's and the network's.",
            (f"histogram_quantile(0.95, sum by (host, le) (rate(hearthgate_upstream_response_duration_seconds_bucket{{{HOST}}}{RATE})))",
             "upstream of {{host}}, 95 of 100"),
            (quantile(0.99, "hearthgate_gate_duration_seconds", GATE), "the gate, 99 of 100"),
            unit=Seconds,
        ),
        stacked(curves(
            "Requests by class",
            "What is asked for. `other` ended before anybody knew: redirects, scanners, unknown names.",
            (f"sum by (class) (rate(hearthgate_requests_total{{{HOST}}}{RATE}))", "{{class}}"),
            unit=RequestsPerSecond,
        )),
        colours(curves(
            "Requests by answer",
            "4xx are mostly strangers; 5xx come from behind the gate; `aborted` had left before an answer. "
            "Beside it, requests that the upstream did not answer, by cause.",
            (f"sum by (code) (rate(hearthgate_requests_total{{{HOST}}}{RATE}))", "{{code}}"),
            (f"sum by (cause) (rate(hearthgate_upstream_failures_total{{{HOST}}}{RATE})) > 0 or "
             f"sum(rate(hearthgate_upstream_failures_total{{{HOST}}}{RATE}))", "no answer: {{cause}}"),
            unit=RequestsPerSecond,
        ), _2xx="green", _3xx="blue", _4xx="orange", _5xx="red", _1xx="purple", aborted="yellow"),
        curves(
            "Bytes",
            "Bodies of requests and answers, and what WebSockets carry.",
            (f"sum(rate(hearthgate_response_size_bytes_sum{{{HOST}}}{RATE}))", "answers"),
            (f"sum(rate(hearthgate_request_size_bytes_sum{{{HOST}}}{RATE}))", "requests"),
            (f"sum by (direction) (rate(hearthgate_websocket_bytes_total{{{GATE}}}{RATE}))", "WebSockets, {{direction}}"),
            unit=BytesPerSecondIEC,
        ),
        curves(
            "The process",
            "Resident memory, and below it the share of one core. Memory that only ever grows over days: please report it.",
            (f"process_resident_memory_bytes{{{GATE}}} and on (instance) hearthgate_build_info", "memory"),
            (f"rate(process_cpu_seconds_total{{{GATE}}}{RATE}) and on (instance) hearthgate_build_info", "share of a core"),
            unit=BytesIEC,
        ).override_by_name("share of a core", [
            model.DynamicConfigValue(id_val="unit", value=PercentUnit),
            model.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
        ]),
    ]


def variables() -> list:
    every = model.VariableOption(selected=True, text="All", value="$__all")

    def of(name: str, label: str, metric: str) -> dashboard.QueryVariable:
        made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(f"label_values({metric}, {name})")
        made = made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
        return made.multi(True).include_all(True).all_value(".*").current(every)

    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        of("instance", "Gate", "hearthgate_build_info"),
        of("host", "Host", f"hearthgate_upstream_up{{{GATE}}}"),
    ]


def annotations() -> list:
    def of(name: str, color: str, expression: str, text: str) -> dashboard.AnnotationQuery:
        made = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color)
        target = prometheus.Dataquery().ref_id("Annotation").expr(expression).interval("1m")
        return made.target(target).title_format(name).text_format(text)

    return [
        of("Reloads", "blue", f"hearthgate_config_last_reload_success_timestamp_seconds{{{GATE}}} * 1000",
           "a configuration went into force").use_value_for_time(True),
        of("Bans", "red", f"sum by (cause) (increase(hearthgate_bans_total{{{GATE}}}[1m])) > 0", "banned by {{cause}}"),
        of("Renewals", "green", f"hearthgate_tls_certificate_not_before_timestamp_seconds{{{HOST}}} * 1000",
           "the certificate of {{host}} begins").use_value_for_time(True),
    ]


def build() -> model.Dashboard:
    made = (
        dashboard.Dashboard("Hearthgate")
        .uid("hearthgate")
        .description("Is the door open? Who knocks? How does it feel?")
        .tags(["hearthgate", "home-assistant"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
    )
    for variable in variables():
        made = made.with_variable(variable)
    for annotation in annotations():
        made = made.annotation(annotation)
    rows = {
        "Is the door open?": is_the_door_open(),
        "Who knocks?": who_knocks(),
        "How does it feel?": how_does_it_feel(),
    }
    # Grafana tells panels apart by number.
    numbers = itertools.count(1)
    for title, panels in rows.items():
        made = made.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            made = made.with_panel(panel.id(next(numbers)))
    return made.build()


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(build()))
