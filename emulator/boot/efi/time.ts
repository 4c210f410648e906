/** EFI_TIME: UEFI 2.10 §8.3, GetTime(). Calendar arithmetic of our own: the emulator knows no host date functions. */
import { signExtend } from '../../base/bits.ts';
import { struct, u16, u32, u8, viewOf } from '../../base/struct.ts';

export const EfiTime = struct(
  'EFI_TIME',
  {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    padding1: u8,
    nanosecond: u32,
    timeZone: u16,
    daylight: u8,
    padding2: u8,
  },
  { size: 16 },
);

const DAY = 86_400_000;
/** Days from 0000-03-01 to 1970-01-01. Counting years from March puts the leap day last. */
const EPOCH = 719_468;
const DAYS_IN_400_YEARS = 146_097;

/** Days since 1970-01-01 of a Gregorian date. */
function daysOf(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1;
  const m = (month + 9) % 12; // March = 0
  return (
    y * 365 + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400) + Math.floor((153 * m + 2) / 5) + day - 1 - EPOCH
  );
}

/** Gregorian date of days since 1970-01-01. */
function dateOf(days: number): { year: number; month: number; day: number } {
  const d = days + EPOCH;
  const era = Math.floor(d / DAYS_IN_400_YEARS);
  const inEra = d - era * DAYS_IN_400_YEARS;
  const year = Math.floor((inEra - Math.floor(inEra / 1460) + Math.floor(inEra / 36_524) - Math.floor(inEra / 146_096)) / 365);
  const inYear = inEra - (365 * year + Math.floor(year / 4) - Math.floor(year / 100));
  const m = Math.floor((5 * inYear + 2) / 153);
  const month = m < 10 ? m + 3 : m - 9;
  return { year: era * 400 + year + (month <= 2 ? 1 : 0), month, day: inYear - Math.floor((153 * m + 2) / 5) + 1 };
}

/** EFI_TIME (UTC) of milliseconds since 1970. */
export function encodeTime(ms: number): Uint8Array {
  const days = Math.floor(ms / DAY);
  const rest = ms - days * DAY;
  return EfiTime.make({
    ...dateOf(days),
    hour: Math.floor(rest / 3_600_000),
    minute: Math.floor(rest / 60_000) % 60,
    second: Math.floor(rest / 1000) % 60,
    nanosecond: Math.floor(rest % 1000) * 1_000_000,
  });
}

/** "No time zone given": the time is local, and local is UTC here. */
const UNSPECIFIED_TIMEZONE = 0x7ff;

/** Milliseconds since 1970 of an EFI_TIME; undefined when a field is out of the range that §8.3 gives. */
export function decodeTime(time: Uint8Array): number | undefined {
  const t = EfiTime.get(viewOf(time), 0);
  const zone = t.timeZone === UNSPECIFIED_TIMEZONE ? 0 : signExtend(t.timeZone, 16);
  const valid =
    t.year >= 1900 &&
    t.year <= 9999 &&
    t.month >= 1 &&
    t.month <= 12 &&
    t.day >= 1 &&
    t.hour < 24 &&
    t.minute < 60 &&
    t.second < 60 &&
    t.nanosecond < 1e9 &&
    zone >= -1440 &&
    zone <= 1440;
  if (!valid) return undefined;
  const days = daysOf(t.year, t.month, t.day);
  const back = dateOf(days);
  if (back.month !== t.month || back.day !== t.day) return undefined; // the 31st of a short month
  // TimeZone: "localtime = UTC - TimeZone".
  return days * DAY + t.hour * 3_600_000 + (t.minute + zone) * 60_000 + t.second * 1000 + Math.floor(t.nanosecond / 1e6);
}
