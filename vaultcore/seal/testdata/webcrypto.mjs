// The attachment formats of FORMAT.md written and read with WebCrypto alone: version 3 as the seed's
// browser client does, version 4 as a browser would. It shares no code with the Go package.
//
//   node webcrypto.mjs fixture      fixed keys and IVs, one JSON document (v1/webcrypto.json)
//   node webcrypto.mjs write DIR    random keys: DIR/cases.json and one file per content
//   node webcrypto.mjs read DIR     opens what the Go test wrote in the same shape; exit 1 on any difference
import { webcrypto as wc, createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const S = wc.subtle, enc = new TextEncoder(), dec = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const CHUNK = 16384, TAG = 16, IV = 12, HEADER = 64;
const LENGTHS = [0, 1, 16383, 16384, 16385, 40000, 26214400];
const FULL = 40000; // fixtures up to this length are kept whole, longer ones as SHA-256
const NAMES = ['recovery-codes.pdf', '𝔳ault 🔐 Schlüssel.pdf', 'a', 'Ordner/Übersicht 𠮷野家.txt', 'x'.repeat(255), 'nul\u0000 and \ud83d\ude00', 'ﬁn.bin'];
const TYPES = ['application/pdf', '', 'text/plain; charset=utf-8', 'application/octet-stream', '', 'image/png', 'text/𝒽tml'];

const hex = b => Buffer.from(b).toString('hex'), unhex = s => Uint8Array.from(Buffer.from(s, 'hex'));
const b64 = b => Buffer.from(b).toString('base64'), unb64 = s => Uint8Array.from(Buffer.from(s, 'base64'));
const cat = (...a) => Uint8Array.from(Buffer.concat(a));
const sha256 = b => hex(createHash('sha256').update(b).digest());
const random = n => wc.getRandomValues(new Uint8Array(n));
const fixed = (a, n) => Uint8Array.from({ length: n }, (_, i) => (a + i) & 255);
const content = n => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 255);

function params(iv, aad) {
  return aad ? { name: 'AES-GCM', iv, additionalData: aad } : { name: 'AES-GCM', iv };
}
async function aes(raw) { return S.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt']); }
async function seal(key, iv, plain, aad) { return new Uint8Array(await S.encrypt(params(iv, aad), key, plain)); }
async function open(key, iv, sealed, aad) { return new Uint8Array(await S.decrypt(params(iv, aad), key, sealed)); }
const pair = (iv, ct) => ({ iv: b64(iv), ciphertext: b64(ct) });

// HKDF-Expand with SHA-512 and no extract step.
async function expand(prk, info, n) {
  const k = await S.importKey('raw', prk, { name: 'HMAC', hash: 'SHA-512' }, false, ['sign']);
  let t = new Uint8Array(0), out = t;
  for (let i = 1; out.length < n; i++) {
    t = new Uint8Array(await S.sign('HMAC', k, cat(t, info, Uint8Array.of(i))));
    out = cat(out, t);
  }
  return out.slice(0, n);
}

// ---- version 3: the seed

async function writeV3(c, draw) {
  const key = await aes(c.fk), wrapKey = await aes(c.encKey);
  const iv = draw('content'), nameIV = draw('name'), mimeIV = draw('mime'), wrapIV = draw('wrap');
  return {
    blob: cat(iv, await seal(key, iv, content(c.length))),
    name: JSON.stringify(pair(nameIV, await seal(key, nameIV, enc.encode(c.name)))),
    mime: JSON.stringify(pair(mimeIV, await seal(key, mimeIV, enc.encode(c.mime)))),
    wrapped: pair(wrapIV, await seal(wrapKey, wrapIV, c.fk)),
  };
}

async function unwrap(encKey, wrapped) {
  return open(await aes(encKey), unb64(wrapped.iv), unb64(wrapped.ciphertext));
}

async function readV3(r, blob) {
  const key = await aes(await unwrap(unhex(r.encKey), r.wrapped));
  const field = async text => { const o = JSON.parse(text); return dec.decode(await open(key, unb64(o.iv), unb64(o.ciphertext))); };
  return { plain: await open(key, blob.subarray(0, IV), blob.subarray(IV)), name: await field(r.name), mime: await field(r.mime) };
}

// ---- version 4

async function keysV4(fk, vault, blobID, salt) {
  const info = cat(enc.encode('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0'), salt, enc.encode('vaultdrive/v4/content\0'), vault, blobID);
  const okm = await expand(fk, info, 76);
  return { key: await aes(okm.slice(0, 32)), base: okm.slice(32, 44), commitment: okm.slice(44) };
}
function nonce(base, k) {
  const n = Uint8Array.from(base), v = new DataView(n.buffer);
  v.setBigUint64(4, v.getBigUint64(4) ^ BigInt(k));
  return n;
}
async function metaV4(fk, vault, attachment, field) {
  const key = await aes(await expand(fk, cat(enc.encode('vaultdrive/v4/meta\0'), vault, attachment), 32));
  return { key, aad: cat(enc.encode(`vaultdrive/v4/${field}\0`), vault, attachment) };
}

async function writeV4(c, draw) {
  const salt = draw('salt'), plain = content(c.length), k = await keysV4(c.fk, c.vault, c.blobID, salt);
  const parts = [enc.encode('VDBLOB4\n'), salt, k.commitment];
  for (let i = 0; i <= Math.floor(plain.length / CHUNK); i++) {
    parts.push(await seal(k.key, nonce(k.base, i), plain.subarray(i * CHUNK, (i + 1) * CHUNK)));
  }
  const field = async (name, iv, text) => {
    const m = await metaV4(c.fk, c.vault, c.attachment, name);
    return JSON.stringify(pair(iv, await seal(m.key, iv, enc.encode(text), m.aad)));
  };
  const wrapIV = draw('wrap');
  return {
    blob: cat(...parts),
    name: await field('name', draw('name'), c.name),
    mime: await field('mime', draw('mime'), c.mime),
    wrapped: pair(wrapIV, await seal(await aes(c.encKey), wrapIV, c.fk)),
  };
}

async function readV4(r, blob) {
  const fk = await unwrap(unhex(r.encKey), r.wrapped), vault = unhex(r.vault);
  if (dec.decode(blob.subarray(0, 8)) !== 'VDBLOB4\n') throw new Error('magic');
  const k = await keysV4(fk, vault, unhex(r.blobID), blob.subarray(8, 32));
  if (hex(k.commitment) !== hex(blob.subarray(32, HEADER))) throw new Error('commitment');
  if ((blob.length - HEADER) % (CHUNK + TAG) < TAG) throw new Error('no end marker');
  const parts = [];
  for (let i = 0, off = HEADER; off < blob.length; i++, off += CHUNK + TAG) {
    parts.push(await open(k.key, nonce(k.base, i), blob.subarray(off, off + CHUNK + TAG)));
  }
  const field = async (name, text) => {
    const o = JSON.parse(text), m = await metaV4(fk, vault, unhex(r.attachment), name);
    return dec.decode(await open(m.key, unb64(o.iv), unb64(o.ciphertext), m.aad));
  };
  return { plain: cat(...parts), name: await field('name', r.name), mime: await field('mime', r.mime) };
}

// ---- the three commands

// Fixed cases have one IV per use, and keys of their own: no key meets an IV twice even here.
const starts = { content: 0xa0, name: 0xb0, mime: 0xc0, wrap: 0xd0, salt: 0x80 };
const drawFixed = use => fixed(starts[use], use === 'salt' ? 24 : IV);
const drawRandom = use => random(use === 'salt' ? 24 : IV);

async function makeCase(version, i, isFixed) {
  const bytes = isFixed ? fixed : (_, n) => random(n);
  const c = {
    length: LENGTHS[i], name: NAMES[i], mime: TYPES[i],
    vault: bytes(0x10, 16), attachment: bytes(0x20, 16), blobID: bytes(0x50, 16),
    encKey: bytes(0x20 + 16 * version + i, 32), fk: bytes((version === 3 ? 0 : 0x40) + i, 32),
  };
  if (!isFixed && version === 3) { // exactly as the seed makes its file key
    const k = await S.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt', 'decrypt']);
    c.fk = new Uint8Array(await S.exportKey('raw', k));
  }
  const out = await (version === 3 ? writeV3 : writeV4)(c, isFixed ? drawFixed : drawRandom);
  const row = {
    version, length: c.length, name_text: c.name, mime_text: c.mime, plain_sha256: sha256(content(c.length)),
    vault: hex(c.vault), attachment: hex(c.attachment), blobID: hex(c.blobID), encKey: hex(c.encKey), fk: hex(c.fk),
    wrapped: out.wrapped, name: out.name, mime: out.mime, blob_len: out.blob.length, blob_sha256: sha256(out.blob),
  };
  return { row, blob: out.blob };
}

async function fixture() {
  const rows = [];
  for (const version of [3, 4]) for (let i = 0; i < LENGTHS.length; i++) {
    const { row, blob } = await makeCase(version, i, true);
    if (row.length <= FULL) row.blob = b64(blob);
    rows.push(row);
  }
  process.stdout.write(JSON.stringify(rows, null, 1) + '\n');
}

async function write(dir) {
  const rows = [];
  for (const version of [3, 4]) for (let i = 0; i < LENGTHS.length; i++) {
    const { row, blob } = await makeCase(version, i, false);
    row.file = `v${version}-${row.length}`;
    // The seed's JSON carries version 3 as base64; version 4 is raw everywhere.
    writeFileSync(join(dir, row.file), version === 3 ? b64(blob) : blob);
    rows.push(row);
  }
  writeFileSync(join(dir, 'cases.json'), JSON.stringify(rows));
}

async function read(dir) {
  const rows = JSON.parse(readFileSync(join(dir, 'cases.json'), 'utf8'));
  for (const r of rows) {
    let blob = readFileSync(join(dir, r.file));
    if (r.version === 3) blob = unb64(blob.toString('latin1'));
    const got = await (r.version === 3 ? readV3 : readV4)(r, blob);
    if (got.plain.length !== r.length || sha256(got.plain) !== r.plain_sha256) throw new Error(`${r.file}: content differs`);
    if (got.name !== r.name_text || got.mime !== r.mime_text) throw new Error(`${r.file}: name or type differs`);
  }
  console.log(`${rows.length} cases read`);
}

const [command, dir] = process.argv.slice(2);
const commands = { fixture, write, read };
if (!commands[command]) { console.error('usage: node webcrypto.mjs fixture | write DIR | read DIR'); process.exit(2); }
await commands[command](dir);
