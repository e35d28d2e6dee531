//! strftime_now: Python's datetime.strftime in the C locale.

use std::fmt::Write;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

struct Time {
    year: i64,
    month: i64,
    day: i64,
    /// 1 is the 1st of January.
    day_of_year: i64,
    /// 0 is Monday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Time {
    /// The proleptic Gregorian calendar, counted in eras of 400 years that
    /// begin on the 1st of March (Howard Hinnant, "chrono-Compatible Low-Level
    /// Date Algorithms").
    fn from_seconds(seconds: i64) -> Time {
        let days = seconds.div_euclid(86400);
        let second_of_day = seconds.rem_euclid(86400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month <= 2 {
            day_from_march - 305
        } else {
            day_from_march + 60 + i64::from(leap)
        };
        Time {
            year,
            month,
            day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
            day_of_year,
            weekday: (days + 3).rem_euclid(7),
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// `seconds` since the epoch, shifted to local time. Times beyond those of
/// Python, the years 1 to 9999, are moved to the nearest.
pub fn strftime(format: &str, seconds: i64) -> String {
    let time = Time::from_seconds(seconds.clamp(-62_135_596_800, 253_402_300_799));
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        // glibc's "%-d": no padding.
        let padded = directive != Some('-');
        if !padded {
            directive = rest.next();
        }
        match directive {
            Some(directive) => write_directive(&mut out, directive, padded, &time),
            None => out.push('%'),
        }
    }
    out
}

fn write_directive(out: &mut String, directive: char, padded: bool, time: &Time) {
    let month = MONTHS[time.month as usize - 1];
    let weekday = WEEKDAYS[time.weekday as usize];
    let hour12 = (time.hour + 11) % 12 + 1;
    let mut number = |value: i64, width: usize| {
        let width = if padded { width } else { 0 };
        let _ = write!(out, "{value:0width$}");
    };
    match directive {
        'd' => number(time.day, 2),
        'm' => number(time.month, 2),
        'y' => number(time.year % 100, 2),
        'Y' => number(time.year, 1),
        'H' => number(time.hour, 2),
        'I' => number(hour12, 2),
        'M' => number(time.minute, 2),
        'S' => number(time.second, 2),
        'j' => number(time.day_of_year, 3),
        'u' => number(time.weekday + 1, 1),
        'w' => number((time.weekday + 1) % 7, 1),
        'e' if padded => {
            let _ = write!(out, "{:2}", time.day);
        }
        'e' => number(time.day, 1),
        'B' => out.push_str(month),
        'b' | 'h' => out.push_str(&month[..3]),
        'A' => out.push_str(weekday),
        'a' => out.push_str(&weekday[..3]),
        'p' => out.push_str(if time.hour < 12 { "AM" } else { "PM" }),
        'F' => {
            let _ = write!(out, "{}-{:02}-{:02}", time.year, time.month, time.day);
        }
        'D' | 'x' => {
            let year = time.year % 100;
            let _ = write!(out, "{:02}/{:02}/{year:02}", time.month, time.day);
        }
        'T' | 'X' => {
            let _ = write!(
                out,
                "{:02}:{:02}:{:02}",
                time.hour, time.minute, time.second
            );
        }
        'R' => {
            let _ = write!(out, "{:02}:{:02}", time.hour, time.minute);
        }
        'c' => {
            let _ = write!(
                out,
                "{} {} {:2} {:02}:{:02}:{:02} {}",
                &weekday[..3],
                &month[..3],
                time.day,
                time.hour,
                time.minute,
                time.second,
                time.year
            );
        }
        'f' => out.push_str("000000"),
        // A naive datetime has no zone.
        'z' | 'Z' => {}
        'n' => out.push('\n'),
        't' => out.push('\t'),
        '%' => out.push('%'),
        // What has no meaning stands for itself, as glibc has it; so do weeks
        // and centuries, which no template asks for.
        other => {
            out.push('%');
            out.push(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_753_531_200; // Saturday, 2025-07-26 12:00:00

    #[test]
    fn directives() {
        assert_eq!(strftime("%d %b %Y", NOON), "26 Jul 2025");
        assert_eq!(strftime("%A, %B %-d, %y", NOON), "Saturday, July 26, 25");
        assert_eq!(
            strftime("%F %T %I%p %H:%M", NOON),
            "2025-07-26 12:00:00 12PM 12:00"
        );
        assert_eq!(strftime("%a %j %u %w %e%%", NOON), "Sat 207 6 6 26%");
        assert_eq!(strftime("%-I %q % ", NOON - 11 * 3600), "1 %q % ");
        assert_eq!(strftime("100%", NOON), "100%");
        assert_eq!(strftime("%c|%f|%z%Z", NOON), "Sat Jul 26 12:00:00 2025|000000|");
    }

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(strftime("%F %a %j", 0), "1970-01-01 Thu 001");
        assert_eq!(strftime("%F %T", -1), "1969-12-31 23:59:59");
        assert_eq!(strftime("%F %j", 951_782_400), "2000-02-29 060");
        assert_eq!(strftime("%F %j", 978_220_800), "2000-12-31 366");
        assert_eq!(strftime("%F %j", 4_107_542_400), "2100-03-01 060");
        assert_eq!(strftime("%F", i64::MIN), "1-01-01");
        assert_eq!(strftime("%F", i64::MAX), "9999-12-31");
    }
}
