"""A plant.toml is understood, or everything wrong with it is said at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from twin.plant import Compressor, Use
from twin.service.config import Config, ConfigError, Problem, load

GOOD = """
[[heat_pump]]
id = "hp1"
refrigerant = "R134a"
[heat_pump.nameplate]
sink_heat = "600 kW"
power = "150 kW"
source_inlet = "35 degC"
source_outlet = "28 degC"
sink_inlet = "50 degC"
sink_outlet = "65 degC"
[heat_pump.payload]
topic = "dc/hp1"
time = "ts"
[heat_pump.points]
compressor_power_w = { pointer = "/p_el", unit = "kW" }
suction_pressure_pa = { column = "p_suc", unit = "bar(g)" }
sink_energy_j = { topic = "dc/meter", unit = "MWh" }
"""

# The same with a nameplate that is not the example of hptwin init.
OWN = GOOD.replace('sink_outlet = "65 degC"', 'sink_outlet = "66 degC"')


def written(folder: Path, text: str, **environ: str) -> Config:
    """Load a configuration that is written for the purpose."""
    path = folder / "plant.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def problems(folder: Path, text: str, **environ: str) -> tuple[Problem, ...]:
    """Return what is said of a configuration that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        written(folder, text, **environ)
    return caught.value.problems


def test_a_good_one_is_understood(tmp_path: Path) -> None:
    """Field units, pointers, columns and counters all arrive in SI."""
    config = written(tmp_path, GOOD)
    (machine,) = config.plant.machines
    assert machine.nameplate.sink_heat_w == 600e3
    assert machine.nameplate.cop == 4.0
    assert machine.compressor is Compressor.SCREW
    power, pressure, energy = config.sources
    assert (power.topic, power.pointer, power.time_pointer, power.scale) == (
        "dc/hp1", "/p_el", "/ts", 1000.0,
    )  # fmt: skip
    assert (pressure.pointer, pressure.scale, pressure.offset) == (
        "/p_suc", 1e5, 101_325.0,
    )  # fmt: skip
    assert (energy.topic, energy.pointer, energy.counter) == ("dc/meter", "", True)
    assert not power.counter
    assert machine.points == {
        "compressor_power_w", "suction_pressure_pa", "sink_energy_j",
    }  # fmt: skip
    assert config.mqtt.host == "127.0.0.1"
    assert config.state_dir.parent == tmp_path


@pytest.mark.parametrize(
    ("found", "instead", "key", "words"),
    [
        ('power = "150 kW"', 'power = "50 kW"', "heat_pump.hp1.nameplate.power",
         "above Carnot's 9.14"),
        ('source_inlet = "35 degC"', 'source_inlet = "20 degC"',
         "heat_pump.hp1.nameplate.source_inlet", "swap them"),
        ('sink_inlet = "50 degC"', 'sink_inlet = "70 degC"',
         "heat_pump.hp1.nameplate.sink_outlet", "swap them"),
        ('sink_heat = "600 kW"', 'sink_heat = 600',
         "heat_pump.hp1.nameplate.sink_heat", "has no unit"),
        ('sink_heat = "600 kW"', 'sink_heat = "600"',
         "heat_pump.hp1.nameplate.sink_heat", "has no unit"),
        ('sink_heat = "600 kW"', 'sink_heat = "600 degC"',
         "heat_pump.hp1.nameplate.sink_heat", "does not measure"),
        ('sink_outlet = "65 degC"', 'sink_outlet = "65 degC"\ncondensing = "49 degC"',
         "heat_pump.hp1.nameplate.condensing", "on the wrong side of sink_inlet"),
        ('sink_outlet = "65 degC"', 'sink_outlet = "65 degC"\nevaporating = "35 degC"',
         "heat_pump.hp1.nameplate.evaporating", "on the wrong side of source_inlet"),
        ('sink_outlet = "65 degC"', 'sink_outlet = "65 degC"\nspeed_max = "60 Hz"',
         "heat_pump.hp1.nameplate.speed_max", "needs the speed"),
        ('sink_outlet = "65 degC"', 'sink_outlet = "65 degC"\nsink_heat_min = "700 kW"',
         "heat_pump.hp1.nameplate.sink_heat_min", "more than the sink_heat of 600 kW"),
        ('refrigerant = "R134a"', 'refrigerant = "R134a"\nreference_accepted = true',
         "heat_pump.hp1.reference_accepted", "is not text"),
        ("sink_heat", "sink_haet", "heat_pump.hp1.nameplate.sink_haet",
         'did you mean "sink_heat"'),
        ('"R134a"', '"R134b"', "heat_pump.hp1.refrigerant", "R134a"),
        ('"R134a"', '"R744"', "heat_pump.hp1.refrigerant", "critical"),
        ("suction_pressure_pa", "suction_presure_pa",
         "heat_pump.hp1.points.suction_presure_pa", 'mean "suction_pressure_pa"'),
        ("suction_pressure_pa", "it_power_w", "heat_pump.hp1.points.it_power_w",
         "is no point of a heat pump"),
        ('unit = "bar(g)"', 'unit = "m3/h"',
         "heat_pump.hp1.points.suction_pressure_pa.unit", "does not measure"),
        ('"dc/meter"', '"dc/+/meter"', "heat_pump.hp1.points.sink_energy_j.topic",
         "wildcard"),
        ('id = "hp1"', 'id = "hp1"\nconsumers = ["town"]',
         "heat_pump.hp1.consumers", "is no consumer"),
        ('id = "hp1"', 'id = "hp1"\ncools = ["town"]',
         "heat_pump.hp1.cools", "is no consumer of cold"),
        ('id = "hp1"', 'id = "../hp1"', "heat_pump.../hp1.id", "no short name"),
        ("[[heat_pump]]", '[web]\nhost = "0.0.0.0"\n[[heat_pump]]', "web.host",
         "without encryption"),
        ("[[heat_pump]]", '[web]\ncert_file = "a.pem"\n[[heat_pump]]',
         "web.key_file", "is missing"),
        ("[[heat_pump]]", '[mqtt]\nhost = "10.0.0.5"\n[[heat_pump]]', "mqtt.host",
         "without encryption"),
        ("[[heat_pump]]", '[mqtt]\nhost = "127.evil.example"\n[[heat_pump]]',
         "mqtt.host", "without encryption"),
        ("[[heat_pump]]", '[mqtt]\npassword = "hunter2"\n[[heat_pump]]',
         "mqtt.password", "password_file"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql://me:hunter2@127.0.0.1/db"\n'
         '[[heat_pump]]', "state.url", "secret_file"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql:///db?password=hunter2"\n'
         '[[heat_pump]]', "state.url", "secret_file"),
        ("[[heat_pump]]", '[state]\nurl = "mysql://127.0.0.1/db"\n[[heat_pump]]',
         "state.url", "of no PostgreSQL"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql://127.0.0.1"\n[[heat_pump]]',
         "state.url", "names no database"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql://127.0.0.1:x/db"\n'
         '[[heat_pump]]', "state.url", "is no address"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql://db.example.org/db"\n'
         '[[heat_pump]]', "state.url", "without encryption"),
        ("[[heat_pump]]", '[state]\nurl = "postgresql:///db?host=/run&host=10.0.0.5"\n'
         '[[heat_pump]]', "state.url", "without encryption"),
        ("[[heat_pump]]", '[state]\nsecret_env = "HPTWIN_X"\n[[heat_pump]]',
         "state.secret_env", "is for a PostgreSQL"),
        ("[[heat_pump]]", '[tariff]\nheat_price = "-6 EUR/MWh"\n[[heat_pump]]',
         "tariff.heat_price", "out of any sensible range"),
        ("[[heat_pump]]", '[site]\ntimezone = "Europe/Berln"\n[[heat_pump]]',
         "site.timezone", "Europe/Berlin"),
        ("[heat_pump.payload]", '[heat_pump.source]\ncoolant = "MPG"\n'
         'mass_fraction = 25\n[heat_pump.payload]',
         "heat_pump.hp1.source.mass_fraction", "25 %"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_remedy(
    tmp_path: Path, found: str, instead: str, key: str, words: str
) -> None:
    """Each mistake is named by its key, and by what is right."""
    assert found in GOOD
    said = problems(tmp_path, GOOD.replace(found, instead, 1))
    assert key in [each.key for each in said]
    assert words in " ".join(str(each) for each in said if each.key == key)
    assert "hunter2" not in " ".join(map(str, said))


def test_a_coolant_that_would_freeze(tmp_path: Path) -> None:
    """Water in a brine circuit below zero is refused; enough glycol is not."""
    cold = GOOD.replace('"35 degC"', '"-2 degC"').replace('"28 degC"', '"-6 degC"')
    cold = cold.replace('"150 kW"', '"250 kW"')
    (said,) = problems(tmp_path, cold)
    assert "freezes at 0.0 degC" in said.sentence
    glycol = '[heat_pump.source]\ncoolant = "MEG"\nmass_fraction = "30 %"\n'
    written(
        tmp_path, cold.replace("[heat_pump.payload]", glycol + "[heat_pump.payload]")
    )


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    """Three mistakes in three tables are three problems, each whole."""
    text = GOOD.replace('"R134a"', '"R999"').replace("p_el", "p_el~")
    text += '[[exchanger]]\nid = "hp1"\nheet = 3\n[web]\nport = "x"\n'
    keys = {each.key for each in problems(tmp_path, text)}
    assert {
        "heat_pump.hp1.refrigerant",
        "hp1",
        "exchanger.hp1.heet",
        "web.port",
    } <= keys
    assert all(each.sentence and each.remedy for each in problems(tmp_path, text))


def test_a_data_sheet_may_tell_the_refrigerants_temperatures(tmp_path: Path) -> None:
    """And an operator may take a machine as it was found; silence is neither."""
    (silent,) = written(tmp_path, GOOD).plant.machines
    text = GOOD.replace(
        'sink_outlet = "65 degC"',
        'sink_outlet = "65 degC"\nevaporating = "24 degC"\ncondensing = "67 degC"',
    ).replace('"R134a"', '"R134a"\nreference_accepted = "bought used"')
    (told,) = written(tmp_path, text).plant.machines
    sheet = told.nameplate

    assert silent.nameplate.condensing_temp_degc is None
    assert silent.reference_accepted == ""
    assert sheet.evaporating_temp_degc == pytest.approx(24.0)
    assert sheet.condensing_temp_degc == pytest.approx(67.0)
    assert told.reference_accepted == "bought used"


def test_the_environment_overrides_scalars(tmp_path: Path) -> None:
    """HPTWIN_MQTT__PORT is [mqtt] port; a misspelt variable is a problem."""
    assert written(tmp_path, GOOD, HPTWIN_MQTT__PORT="2883").mqtt.port == 2883
    assert written(tmp_path, GOOD, HPTWIN_CONFIG="x", HOME="/").mqtt.port == 1883
    (said,) = problems(tmp_path, GOOD, HPTWIN_MQTT__PROT="2883")
    assert 'did you mean "HPTWIN_MQTT__PORT"' in said.remedy


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hptwin@127.0.0.1:5432/hptwin",
        "postgres://hptwin@localhost/hptwin?options=-csearch_path%3Dnorth",
        "postgresql:///hptwin?host=/run/postgresql",
        "postgresql://db.example.org/hptwin?sslmode=verify-full&sslrootcert=/ca.crt",
    ],
)
def test_a_server_for_the_state_is_named_by_its_url(tmp_path: Path, url: str) -> None:
    """On this machine as it is; on another with encryption, or by permission."""
    config = written(tmp_path, f'[state]\nurl = "{url}"\nsecret_env = "X"\n{GOOD}')
    assert config.state.url == url
    assert written(tmp_path, GOOD, HPTWIN_STATE__URL=url).state.url == url
    far = "postgresql://hptwin@10.0.0.5/hptwin"
    allowed = f'[state]\nurl = "{far}"\nallow_plaintext = true\n{GOOD}'
    assert written(tmp_path, allowed).state.url == far
    assert written(tmp_path, GOOD).state.url == ""


def test_an_open_secret_is_a_warning(tmp_path: Path) -> None:
    """A password that everybody may read is warned of; a private one is not."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    text = '[mqtt]\nusername = "u"\npassword_file = "secret"\n' + OWN
    secret.chmod(0o644)
    (said,) = written(tmp_path, text).warnings
    assert said.key == "mqtt.password_file"
    assert "hunter2" not in str(said)
    secret.chmod(0o600)
    assert written(tmp_path, text).warnings == ()


def test_the_example_s_nameplate_is_a_warning(tmp_path: Path) -> None:
    """It loads, and says so until a single value is the machine's own."""
    (said,) = written(tmp_path, GOOD).warnings
    assert said.key == "heat_pump.hp1.nameplate"
    assert "example" in said.sentence
    assert "data sheet" in said.remedy
    assert written(tmp_path, OWN).warnings == ()


@pytest.mark.parametrize("text", ["[", "a = ", "\x00", "[mqtt]\n[mqtt]"])
def test_what_is_no_toml_is_a_problem(tmp_path: Path, text: str) -> None:
    """Neither a traceback nor silence."""
    (said,) = problems(tmp_path, text)
    assert "cannot be read as TOML" in said.sentence


@pytest.mark.parametrize(
    "name",
    ["site", "mqtt", "archive", "state", "web", "notify", "tariff", "schedule",
     "heat_pump", "exchanger", "rejector", "consumer", "maintenance"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["1", '"x"', "[1]", "[{}]", "true", "{ x = 1 }"])
def test_any_shape_in_any_table_is_a_problem(
    tmp_path: Path, name: str, value: str
) -> None:
    """A table of the wrong shape is reported, never an exception of another kind."""
    assert problems(tmp_path, f"{name} = {value}\n")


def formatted(payload: str, points: str) -> str:
    """Return a configuration with another payload and other points."""
    head = GOOD[: GOOD.index("[heat_pump.payload]")]
    return f"{head}[heat_pump.payload]\n{payload}\n[heat_pump.points]\n{points}\n"


def test_a_format_is_of_the_device_or_of_a_point(tmp_path: Path) -> None:
    """And so is which measurement of it is meant; names stay as they are."""
    text = formatted(
        'topic = "t"\nformat = "telegraf"\nwhere = { name = "modbus", host = "a" }',
        'compressor_power_w = { pointer = "p/el", unit = "kW" }\n'
        'sink_inlet_temp_degc = { pointer = "t", where = { host = "b" } }\n'
        'sink_outlet_temp_degc = { topic = "spBv1.0/g/e/d", pointer = "T/out",'
        ' format = "sparkplug" }\n'
        'source_inlet_temp_degc = { topic = "plain", format = "json" }',
    )
    config = written(tmp_path, text)
    power, inlet, outlet, plain = config.sources
    assert (power.format, power.pointer, power.scale) == ("telegraf", "p/el", 1000.0)
    assert power.where == (("host", "a"), ("name", "modbus"))
    assert inlet.where == (("host", "b"),)
    assert (outlet.format, outlet.pointer, outlet.where) == ("sparkplug", "T/out", ())
    assert (plain.format, plain.where, plain.topic) == ("", (), "plain")
    assert not config.rebirth


def test_the_version_of_mqtt_is_one_that_is_spoken(tmp_path: Path) -> None:
    """3.1.1 unless another one is asked for."""
    assert written(tmp_path, GOOD).mqtt.protocol == "3.1.1"
    assert written(tmp_path, '[mqtt]\nprotocol = "5"\n' + GOOD).mqtt.protocol == "5"
    (found,) = problems(tmp_path, '[mqtt]\nprotocol = "4"\n' + GOOD)
    assert 'write "3.1.1" or "5"' in str(found)


def test_a_rebirth_is_asked_for_by_name_only(tmp_path: Path) -> None:
    """It is the one thing that is written toward the plant."""
    assert written(tmp_path, "[mqtt]\nrebirth = true\n" + GOOD).rebirth
    assert written(tmp_path, GOOD, HPTWIN_MQTT__REBIRTH="true").rebirth


@pytest.mark.parametrize(
    ("payload", "points", "key", "said"),
    [
        ('topic = "t"\nformat = "influxdb"', "", "payload.format", '"influx"'),
        ('topic = "t"\nformat = "influx"\ntime = "/ts"', "", "payload.time", "leave"),
        ('topic = "t"\nformat = "influx"\nwhere = 5', "", "payload.where", "{ name"),
        (
            'topic = "t"\nformat = "influx"\nwhere = { unit = 5 }',
            "",
            "payload.where",
            "table of texts",
        ),
        ('topic = "t"\nwhere = { name = "x" }', "", "payload.where", "telegraf"),
        (
            'topic = "spBv1.0/g"\nformat = "sparkplug"',
            'sink_inlet_temp_degc = "T"',
            "points.sink_inlet_temp_degc",
            "<group>",
        ),
        (
            'topic = "spBv1.0/g/e"',
            'sink_inlet_temp_degc = "/T"',
            "points.sink_inlet_temp_degc",
            'format = "sparkplug"',
        ),
        (
            'format = "sparkplug"',
            'sink_inlet_temp_degc = { topic = "spBv1.0/g/+/d", pointer = "T" }',
            "points.sink_inlet_temp_degc.topic",
            "wildcard",
        ),
        (
            'topic = "spBv1.0/g/e"\nformat = "sparkplug"',
            "sink_inlet_temp_degc = {}",
            "points.sink_inlet_temp_degc",
            "name its metric",
        ),
        (
            'topic = "t"\nformat = "influx"',
            'sink_inlet_temp_degc = "T"\n'
            'sink_outlet_temp_degc = { pointer = "/t", format = "json" }',
            "hp1.points.sink_outlet_temp_degc",
            "as influx for sink_inlet_temp_degc",
        ),
    ],
)
def test_what_is_wrong_with_a_format_is_said(
    tmp_path: Path, payload: str, points: str, key: str, said: str
) -> None:
    """At the start, and not by a rejection of each message."""
    found = problems(tmp_path, formatted(payload, points))
    assert any(key in each.key and said in str(each) for each in found), found


def test_the_schedule_says_how_far_a_recalibration_may_step(tmp_path: Path) -> None:
    """Window, interval and both steps; what is no share of the whole is refused."""
    said = (
        "[schedule]\nrecalibrate_every_days = 3\nwindow_days = 21\n"
        "step_percent = 10\nstep_after_event_percent = 40\n"
    )
    schedule = written(tmp_path, said + GOOD).plant.schedule

    assert (schedule.every.days, schedule.window.days) == (3, 21)
    assert (schedule.step, schedule.step_after_event) == (0.10, 0.40)
    (problem,) = problems(tmp_path, "[schedule]\nstep_percent = 150\n" + GOOD)
    assert "step_percent" in str(problem)
    assert "not between 1 and 100" in str(problem)


COLD = """
[[consumer]]
id = "offices"
use = "cold"
cold_price = "45 EUR/MWh"
cold_emission = "0.09 kg/kWh"
"""


def test_somebody_is_cooled(tmp_path: Path) -> None:
    """A machine names whose cold is its source; his prices are of cold."""
    text = GOOD.replace('id = "hp1"', 'id = "hp1"\ncools = ["offices"]') + COLD
    plant = written(tmp_path, text).plant
    assert plant.machines[0].cools == ("offices",)
    offices = plant.consumers[-1]
    assert offices.use is Use.COLD
    assert offices.cold_price_eur_j == pytest.approx(45.0 / 3.6e9)
    assert offices.cold_emission_kg_j == pytest.approx(0.09 / 3.6e6)


@pytest.mark.parametrize(
    ("good", "bad", "key", "said"),
    [
        ("cold_price", "heat_price", "consumer.offices.heat_price",
         "is of heat, and this consumer takes cold"),
        ('use = "cold"', 'use = "process"', "consumer.offices.cold_price",
         "is of cold, and this consumer takes heat"),
        ('use = "cold"', 'use = "cold"\nstore_volume = "5 m3"',
         "consumer.offices.store_volume", "is a store of cold"),
    ],
)  # fmt: skip
def test_heat_and_cold_are_not_mixed_up(
    tmp_path: Path, good: str, bad: str, key: str, said: str
) -> None:
    """A price of the one is no price of the other."""
    found = problems(tmp_path, GOOD + COLD.replace(good, bad))
    assert any(one.key == key and said in one.sentence for one in found), found
    assert written(tmp_path, GOOD + COLD).plant.consumers[0].use is Use.COLD


def test_one_who_is_cooled_is_named_in_cools(tmp_path: Path) -> None:
    """In consumers he would be heated."""
    text = GOOD.replace('id = "hp1"', 'id = "hp1"\nconsumers = ["offices"]') + COLD
    (found,) = problems(tmp_path, text)
    assert "is no consumer of heat" in found.sentence
    assert "name it in cools" in found.remedy


WAYS = """
[notify]
urls = ["json://127.0.0.1:9/"]
alertmanager = "https://alerts.example.org"
heartbeat_file = "ping.url"
heartbeat_every = "10 min"
[[notify.route]]
name = "night duty"
url_file = "duty.url"
least = "high"
units = ["hp1"]
ends = false
[[notify.route]]
url = "json://127.0.0.1:10/"
"""


def test_ways_to_people_differ_by_what_they_are_told(tmp_path: Path) -> None:
    """By severity, by unit, by whether an end is news; a secret from its own file."""
    (tmp_path / "duty.url").write_text("mailtos://night:word@example.org\n", "utf-8")
    (tmp_path / "ping.url").write_text("https://hc.example.org/ping/1\n", "utf-8")
    for name in ("duty.url", "ping.url"):
        (tmp_path / name).chmod(0o600)
    notify = written(tmp_path, GOOD + WAYS).notify

    assert [(way.name, way.least, way.units, way.ends) for way in notify.ways] == [
        ("route1", "low", (), True),
        ("night duty", "high", ("hp1",), False),
        ("extra2", "low", (), True),
    ]
    assert notify.ways[1].url.startswith("mailtos://")
    assert notify.heartbeat == "https://hc.example.org/ping/1"
    assert notify.heartbeat_every == timedelta(minutes=10)
    assert "word" not in repr(notify)
    assert "ping/1" not in repr(notify)


@pytest.mark.parametrize(
    ("route", "key", "sentence"),
    [
        ('url = "json://h"\nleast = "urgent"', "1.least", "is no severity"),
        ('url = "json://h"\nunits = ["hp9"]', "1.units", "names no unit"),
        ('name = "mqtt"\nurl = "json://h"', "mqtt.name", "is taken"),
        ('name = "duty"', "duty.url", "is missing"),
        ('url_file = "gone"', "1.url_file", "is not a file"),
        ('url = "json://h"\nlast = "high"', "1.last", "is not a key of this table"),
    ],
)
def test_a_way_that_leads_nowhere_is_said(
    tmp_path: Path, route: str, key: str, sentence: str
) -> None:
    """By its name or its place, with what would be right."""
    found = problems(tmp_path, f"{GOOD}\n[[notify.route]]\n{route}\n")

    assert (f"notify.route.{key}", True) in [
        (one.key, sentence in one.sentence) for one in found
    ]


@pytest.mark.parametrize("key", ["alertmanager", "heartbeat"])
def test_what_is_no_web_address_is_said(tmp_path: Path, key: str) -> None:
    """A file of this machine is none."""
    (found,) = problems(tmp_path, f'{GOOD}\n[notify]\n{key} = "file:///etc/passwd"\n')

    assert (found.key, found.sentence) == (f"notify.{key}", "is no web address")
