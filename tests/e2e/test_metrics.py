"""`/metrics` of a real gateway, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.gateways import behaving, eventually


def samples(gateway):
    """Every sample by its name and labels."""
    answer = gateway.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (each.name, *sorted(each.labels.items())): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def labels(endpoint="m", **more):
    return sorted({"endpoint": endpoint, **more}.items())


def test_predictions_are_counted_by_what_they_came_to(champion, serve):
    """By version, role and outcome; refused ones are not timed."""
    gateway = serve().ready()
    for word in ("nothing", "nothing", "raise"):
        gateway.ask(word)

    found = samples(gateway)

    one = {"version": "1", "role": "primary"}
    assert found["turnout_predictions_total", *labels(**one, outcome="ok")] == 2
    assert found["turnout_predictions_total", *labels(**one, outcome="refused")] == 1
    assert found["turnout_prediction_seconds_count", *labels(**one)] == 2
    assert found["turnout_prediction_seconds_bucket", *labels(**one, le="+Inf")] == 2
    assert found["turnout_model_calls_total", *labels(version="1")] == 3
    assert found["turnout_replicas", *labels(**one)] == 1
    assert (found["turnout_endpoint_ready", *labels()], found["turnout_endpoint_failing", *labels()]) == (1, 0)
    assert (found["turnout_requests_waiting", *labels()], found["turnout_requests_in_flight", *labels()]) == (0, 0)
    assert (found["turnout_swaps_total",], found["turnout_registry_reachable",]) == (1, 1)
    assert found["turnout_loop_lag_seconds",] >= 0
    assert found["process_resident_memory_bytes",] > 1e6


def test_a_version_that_cannot_be_served_shows(client, champion, add, serve):
    """Counts of the version before stay, and the endpoint is failing while it serves."""
    gateway = serve().ready()
    gateway.ask()
    client.set_registered_model_alias("m", "champion", add(behaving(2)))
    gateway.serves(2)
    gateway.ask()
    client.set_registered_model_alias("m", "champion", add(behaving(3, on_load="raise")))
    eventually(lambda: gateway.status()["last_error"], "the failure shows")

    found = samples(gateway)

    for version in ("1", "2"):
        assert found["turnout_predictions_total", *labels(version=version, role="primary", outcome="ok")] == 1
    assert (found["turnout_endpoint_ready", *labels()], found["turnout_endpoint_failing", *labels()]) == (1, 1)
    assert found["turnout_swaps_total",] == 2


def test_nothing_to_serve(client, serve):
    """Before the first version is up, requests are counted as unavailable, of no version."""
    gateway = serve()
    assert gateway.ask().status_code == 503

    found = samples(gateway)

    assert found["turnout_predictions_total", *labels(version="", role="", outcome="unavailable")] == 1
    assert found["turnout_endpoint_ready", *labels()] == 0
