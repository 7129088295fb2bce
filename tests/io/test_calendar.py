import numpy as np
import pytest

from halocline.io.calendar import from_dates, from_ndastp, last_day, ordinal


def test_end_of_a_month_belongs_to_the_month_that_it_closes():
    stamps = from_dates(np.array([30.0, 360.0, 375.0]), "days since 0001-01-01", "360_day")
    assert stamps.year.tolist() == [1, 1, 2]
    assert stamps.month.tolist() == [1, 12, 1]
    np.testing.assert_allclose(stamps.season, [1 / 12, 0.0, 0.5 / 12], atol=1e-12)
    np.testing.assert_allclose(stamps.time, [30, 360, 375])


@pytest.mark.parametrize(("kind", "days"), [("noleap", 59.0), ("standard", 60.0)])
def test_months_of_real_calendars_are_twelfths_of_the_year(kind, days):
    stamps = from_dates(np.array([days * 86400]), "seconds since 2004-01-01", kind)
    assert (stamps.year[0], stamps.month[0]) == (2004, 2)
    np.testing.assert_allclose(stamps.season, 2 / 12, atol=1e-12)


@pytest.mark.parametrize(
    ("ndastp", "elapsed", "season"),
    [
        (601230, 21600.0, 0.0),
        (600630, 21420.0, 0.5),
        (10101, 0.49999999999999944, 0.5 / 360),
        (10101, None, 1 / 360),
        (20130131, 31.0, 1 / 12),
    ],
)
def test_date_of_a_restart_is_the_last_day_run(ndastp, elapsed, season):
    stamps = from_ndastp(ndastp, elapsed)
    np.testing.assert_allclose(stamps.season, season, atol=1e-9)
    assert stamps.month[0] == ndastp // 100 % 100


@pytest.mark.parametrize("kind", ["360_day", "noleap", "standard"])
@pytest.mark.parametrize("month", [1, 2, 3.5, 12])
def test_season_of_the_last_day_is_the_season_asked_for(kind, month):
    year, number, day = last_day(month, 2004, kind)
    days = ordinal(year, number, day, kind) - ordinal(2004, 1, 1, kind) + 1  # through its end
    stamps = from_dates(np.array([days]), "days since 2004-01-01", kind)
    # Rounding to a whole day: half a day of the year.
    np.testing.assert_allclose(stamps.season, month / 12 % 1, atol=0.51 / 360)


def test_start_of_the_year_is_the_last_day_of_december():
    assert last_day(0, 60, "360_day") == last_day(12, 60, "360_day") == (60, 12, 30)
    assert last_day(2, 1901, "noleap") == (1901, 2, 28)
    assert last_day(2, 1904, "standard") == (1904, 2, 29)


def test_impossible_dates_are_refused():
    with pytest.raises(ValueError, match="ndastp is 601330"):
        from_ndastp(601330, None)
    with pytest.raises(ValueError, match="month is 13"):
        last_day(13, 1, "360_day")
    with pytest.raises(ValueError, match="Calendar 'julian' is unknown"):
        last_day(3, 1, "julian")
    with pytest.raises(ValueError, match="0001-02-30 is no date of calendar standard"):
        ordinal(1, 2, 30, "standard")
