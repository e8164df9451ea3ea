/**
 * Logarithm and exponential of our own: engines differ in the last digits of Math.log, Math.exp and Math.pow, and a result
 * must not. Only + − × ÷ of doubles, which IEEE 754 fixes; relative error below 1e-15 (tests hold it against Math's).
 */

const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;
const SQRT_HALF = 0.7071067811865476;

const parts = new DataView(new ArrayBuffer(8));

/** x as m × 2^e with 0.5 <= m < 1; x > 0 and finite. */
function split(x: number): { mantissa: number; exponent: number } {
  const isTiny = x < 2 ** -1022;
  parts.setFloat64(0, isTiny ? x * 2 ** 54 : x);
  const high = parts.getUint32(0);
  const exponent = ((high >>> 20) & 0x7ff) - 1022;
  parts.setUint32(0, (high & 0x800fffff) | (1022 << 20));
  return { mantissa: parts.getFloat64(0), exponent: isTiny ? exponent - 54 : exponent };
}

/** Natural logarithm; -Infinity of 0, NaN below. */
export function ln(x: number): number {
  if (!(x > 0) || x === Infinity) return x === 0 ? -Infinity : x === Infinity ? x : Number.NaN;
  let { mantissa, exponent } = split(x);
  if (mantissa < SQRT_HALF) {
    mantissa *= 2;
    exponent -= 1;
  }
  // ln m = 2 artanh s with s = (m-1)/(m+1), |s| <= 0.1716: eleven terms leave less than 2^-60.
  const s = (mantissa - 1) / (mantissa + 1);
  const z = s * s;
  let sum = 0;
  for (let n = 23; n >= 3; n -= 2) sum = (sum + 1 / n) * z;
  return exponent * LN2_HIGH + (2 * s + (2 * s * sum + exponent * LN2_LOW));
}

/** e to the power of x. */
export function exp(x: number): number {
  if (Number.isNaN(x) || x > 709.78) return x > 709.78 ? Infinity : Number.NaN;
  if (x < -745.2) return 0;
  const n = Math.floor(x / 0.6931471805599453 + 0.5);
  const r = x - n * LN2_HIGH - n * LN2_LOW;
  // |r| <= 0.3466: fifteen terms leave less than 2^-60.
  let sum = 1;
  for (let k = 15; k >= 1; k--) sum = 1 + (sum * r) / k;
  return sum * power2(n);
}

function power2(n: number): number {
  if (n >= -1022 && n <= 1023) {
    parts.setUint32(0, (n + 1023) << 20);
    parts.setUint32(4, 0);
    return parts.getFloat64(0);
  }
  return n > 0 ? power2(1023) * power2(n - 1023) : power2(-1022) * power2(n + 1022);
}

/** x to the power of y, x > 0. */
export function pow(x: number, y: number): number {
  return exp(y * ln(x));
}
