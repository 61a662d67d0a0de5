// Days since 1970-01-01 to year, month, day of the Gregorian calendar, and back.
//
// Years begin in March here, so that the leap day is a year's last; 400 years are an era of 146,097 days.

export let civilYear: i64 = 1970;
export let civilMonth: u32 = 1;
export let civilDay: u32 = 1;

const DAYS_PER_ERA: i64 = 146097;
const EPOCH_FROM_ERA: i64 = 719468; // days from 0000-03-01 to 1970-01-01

/** Sets civilYear, civilMonth and civilDay. */
export function civilFromDays(days: i64): void {
  const shifted = days + EPOCH_FROM_ERA;
  const era = (shifted >= 0 ? shifted : shifted - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
  const dayOfEra = shifted - era * DAYS_PER_ERA;
  const yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
  const dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
  const marchMonth = <u32>((5 * dayOfYear + 2) / 153);
  civilDay = <u32>dayOfYear - (153 * marchMonth + 2) / 5 + 1;
  civilMonth = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  civilYear = yearOfEra + era * 400 + (civilMonth <= 2 ? 1 : 0);
}

/** month: 1..12. */
export function daysFromCivil(year: i64, month: u32, day: u32): i64 {
  const marchYear = month <= 2 ? year - 1 : year;
  const era = (marchYear >= 0 ? marchYear : marchYear - 399) / 400;
  const yearOfEra = marchYear - era * 400;
  const marchMonth: i64 = month > 2 ? month - 3 : month + 9;
  const dayOfYear = (153 * marchMonth + 2) / 5 + <i64>day - 1;
  return era * DAYS_PER_ERA + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - EPOCH_FROM_ERA;
}
