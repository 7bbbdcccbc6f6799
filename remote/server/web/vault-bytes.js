// Bytes and their texts, read as strictly as the other side of the vault reads
// them: base64 and JSON have one spelling, and what has another is refused.

/** An error of the formats; `code` is its name in CRYPTO.md. */
export class VaultError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'VaultError';
    this.code = code;
  }
}

const encoder = new TextEncoder();

/** UTF-8 of a label or other fixed text. */
export const text = s => encoder.encode(s);

/** UTF-8 of a text from outside. Error: ErrName for half a surrogate pair, which no UTF-8 has. */
export function bytesOf(s) {
  const b = encoder.encode(s);
  if (new TextDecoder('utf-8', { ignoreBOM: true }).decode(b) !== s) throw new VaultError('ErrName', 'not Unicode');
  return b;
}

/** The text of UTF-8 bytes. Error: the code given. */
export function utf8(b, code) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(b);
  } catch {
    throw new VaultError(code, 'not UTF-8');
  }
}

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** Compares without telling by its time where they differ. */
export function equal(a, b) {
  if (a.length !== b.length) return false;
  let differ = 0;
  for (let i = 0; i < a.length; i++) differ |= a[i] ^ b[i];
  return differ === 0;
}

/** Big-endian bytes of an integer. */
export function uint32(n) {
  const b = new Uint8Array(4);
  new DataView(b.buffer).setUint32(0, n);
  return b;
}

export function uint64(n) {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}

/** Length, then the bytes: LP of CRYPTO.md. */
export const prefixed = b => concat(uint32(b.length), b);

export const hex = b => Array.from(b, x => x.toString(16).padStart(2, '0')).join('');

export function fromHex(s) {
  if (typeof s !== 'string' || s.length % 2 !== 0 || /[^0-9a-f]/.test(s)) throw new VaultError('ErrEncoding', 'not hex');
  return Uint8Array.from({ length: s.length / 2 }, (_, i) => parseInt(s.slice(2 * i, 2 * i + 2), 16));
}

/** The 16 bytes of an id in its text form. */
export function uuidBytes(id) {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) throw new VaultError('ErrFormat', 'not an id');
  return fromHex(id.replaceAll('-', ''));
}

export function uuidText(b) {
  return hex(b).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

// A piece is a multiple of three bytes, and short enough to be arguments.
const PIECE = 3 * 8192;

export function base64(b) {
  const out = [];
  for (let at = 0; at < b.length; at += PIECE) {
    out.push(btoa(String.fromCharCode.apply(null, b.subarray(at, at + PIECE))));
  }
  return out.join('');
}

/** Strict RFC 4648 with padding, no line ends. Error: ErrEncoding. */
export function fromBase64(s) {
  if (typeof s !== 'string' || s.length % 4 !== 0) throw new VaultError('ErrEncoding', 'not base64');
  const digits = s.endsWith('==') ? s.length - 2 : s.endsWith('=') ? s.length - 1 : s.length;
  const out = new Uint8Array(Math.floor(digits / 4) * 3 + (digits % 4 ? digits % 4 - 1 : 0));
  const step = PIECE / 3 * 4;
  for (let from = 0, to = 0; from < s.length; from += step) {
    const piece = s.slice(from, from + step);
    // atob skips spaces, takes no padding for granted, and drops what is left of
    // the last digit: all three are refused here.
    if (/[^A-Za-z0-9+/]/.test(piece.slice(0, Math.max(0, digits - from)))) throw new VaultError('ErrEncoding', 'not base64');
    const raw = atob(piece);
    for (let i = 0; i < raw.length; i++) out[to++] = raw.charCodeAt(i);
  }
  if (digits % 4 !== 0 && base64(out.subarray(out.length - out.length % 3)) !== s.slice(-4)) {
    throw new VaultError('ErrEncoding', 'bits left over in base64');
  }
  return out;
}

/**
 * JSON as the vault takes it: no key twice, no half surrogate pairs.
 * Error: ErrFormat.
 */
export function parseJSON(s) {
  let value;
  try {
    value = JSON.parse(s);
  } catch {
    throw new VaultError('ErrFormat', 'not JSON');
  }
  const open = []; // the keys of each object around, null for a list
  for (const [token] of s.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|[{}[\]]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else checkString(token, open.at(-1));
  }
  return value;
}

function checkString(token, keys) {
  const isKey = token.endsWith(':');
  const value = JSON.parse(isKey ? token.slice(0, -1) : token);
  if (/\p{Surrogate}/u.test(value)) throw new VaultError('ErrFormat', 'half a character in JSON');
  if (!isKey) return;
  if (keys.has(value)) throw new VaultError('ErrFormat', `${value} twice in JSON`);
  keys.add(value);
}
