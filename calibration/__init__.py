"""The twin's memory and judgement: from telemetry to models, from models to findings.

Knows the plant and its physics (``twin``), not where telemetry comes from. All
of it is functions from data to data; what lasts (models, daily health) is
handed in and out. Per unit, in the order of event time::

    from calibration import commissioning, findings, fit, gates, health, steady
    from calibration.model import Model, expect
    from calibration.registry import Registry, Role

    # Once, when the reference period is over; `frame` is that period.
    minutes = steady.suitable_minutes(frame, machine)
    windows = steady.windows(frame, machine, minutes)
    flows = fit.learn_flows(frame, machine)            # empty if all are metered
    found = fit.fit_reference(windows, machine, flows=flows)  # fit_exchanger(...)
    # each of them may be a Refusal: say its sentence, try again tomorrow
    model, refused = fit.with_correction(found.model, windows)
    reference, rows = health.commission(windows, model, machine)
    verdict = commissioning.admit(             # is it clean, and did it stand still?
        replace(found, model=reference), rows, machine, windows,
        before=old_reference, changes=log,     # both only where there was one before
    )
    record = registry.save(
        unit, Role.REFERENCE, reference.to_dict(), created=now,
        provenance={"start": found.start, "stop": found.stop,
                    "windows": found.windows, "minutes": minutes, "config": sha},
    )
    history = trend(rows, unit)
    # Every day; let the frame begin an hour before the day and cut it off after.
    today = steady.windows(frame, machine, minutes)
    today = today[today.index > midnight]
    rows = health.daily(today, reference, machine, history=history, log=log)
    history = history.followed_by(rows)
    # Every week; `windows` are those of the last 28 days.
    verdict = gates.recalibrate(windows, reference, current, machine, now=now, log=log)
    registry.save(
        unit, Role.CURRENT, verdict.fit.model.to_dict() if verdict.fit else {},
        created=now, gates=[gate.to_dict() for gate in verdict.gates],
        accepted=verdict.accepted, reason=verdict.reason,
    )
    # Every day, after the above; `week` are the last seven days' windows.
    found = findings.findings(
        history, reference, machine, week, now=now, prices=prices, log=log
    )
    # For any windows: expect(windows, reference), expect(windows, current)

What needs a day's samples and not its windows goes beside these::

    from calibration import operation

    model = operation.with_habits(frame, model, machine)   # of the reference period
    rows = operation.daily(frame, reference, machine, midnight)
    found += operation.findings(history, reference, now=now)

What maintenance staff look at, the approach beyond the reference's, is a row of the
same history: ``approach.daily(today, expect(today, reference), reference, midnight)``.

An exchanger goes the same way with :func:`calibration.fit.fit_exchanger` and
without correction, recalibration and prices. A cleaning in the maintenance log
restarts detection and forecast of its component; nothing moves a reference.
"""
