// From an address and a password to the keys of a vault (CRYPTO.md sections 2, 3
// and 8), with WebCrypto and an Argon2id that the caller brings.
import { VaultError, base64, concat, equal, fromBase64, parseJSON, prefixed, text, uint32, uint64, utf8, uuidBytes, uuidText } from './vault-bytes.js';
import { gcmKey, open } from './vault-attachment-crypto.js';

const KEY = 32, TAG = 16;
const MAX_PAYLOAD = 256 * 1024;
const ZERO_ID = '00000000-0000-0000-0000-000000000000';

/**
 * Reads vd1: and 80 characters: the vault, the token that its header is fetched
 * with, and the hash that its identity must have. Error: ErrAddress.
 */
export function parseAddress(address) {
  const digits = 'abcdefghijklmnopqrstuvwxyz234567';
  if (!/^vd1:[a-z2-7]{80}$/.test(address)) throw new VaultError('ErrAddress', 'an address is vd1: and 80 letters and digits');
  const raw = new Uint8Array(50);
  let bits = 0, held = 0, at = 0;
  for (const c of address.slice(4)) {
    held = (held << 5 | digits.indexOf(c)) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      raw[at++] = held >> bits & 0xff;
    }
  }
  return { vault: uuidText(raw.subarray(0, 16)), boot: raw.slice(16, 32), didHash: raw.slice(32) };
}

/** Compares an identity with the address. Error: ErrIdentityMismatch. */
export async function checkDID(address, did) {
  if (!equal((await sha256(text(did))).subarray(0, 18), address.didHash)) {
    throw new VaultError('ErrIdentityMismatch', 'the server gave the header of another vault');
  }
}

/**
 * Reads a signed header strictly, and the bounds of its Argon2id. It verifies no
 * signature: openHeader does. Errors: ErrHeader, ErrVersion, ErrKDFParams.
 */
export function parseHeader(envelope) {
  try {
    return parseEnvelope(envelope);
  } catch (err) {
    if (!(err instanceof VaultError) || ['ErrKDFParams', 'ErrVersion'].includes(err.code)) throw err;
    throw new VaultError('ErrHeader', `the vault's header is malformed: ${err.message}`);
  }
}

function parseEnvelope(envelope) {
  if (envelope.length > 2 * MAX_PAYLOAD) throw new VaultError('ErrHeader', 'too long');
  const e = fields(parseJSON(envelope), ['payload', 'sig']);
  const payload = fromBase64(e.payload), sig = sized(e.sig, 64);
  if (payload.length > MAX_PAYLOAD) throw new VaultError('ErrHeader', 'too long');
  const js = parseJSON(utf8(payload, 'ErrFormat'));
  if (js?.v !== 1) throw new VaultError('ErrVersion', 'the vault needs a newer program');
  const h = fields(js, ['v', 'vault', 'did', 'seq', 'prev', 'epoch', 'kdf', 'pw', 'rec', 'vkc', 'prevvk', 'devices', 'cut', 'write']);
  whole(h.seq, 1, Number.MAX_SAFE_INTEGER);
  whole(h.epoch, 1, Math.min(h.seq, 2 ** 32 - 1));
  sized(h.prev, 32);
  if (!Array.isArray(h.devices) || h.devices.length > 64) throw new VaultError('ErrHeader', 'devices');
  return {
    vault: uuidText(uuidBytes(h.vault)), did: h.did, seq: h.seq, epoch: h.epoch, kdf: parseKDF(h.kdf), pw: parseSlot(h.pw),
    vkc: sized(h.vkc, 32), prevvk: parsePrevious(h.prevvk, h.epoch), payload, sig,
  };
}

function parseKDF(value) {
  const k = fields(value, ['alg', 'v', 'm', 't', 'p', 'salt']);
  if (k.alg !== 'argon2id' || k.v !== 19) throw new VaultError('ErrHeader', 'not Argon2id 1.3');
  for (const [n, least, most] of [[k.m, 65536, 2097152], [k.t, 3, 16], [k.p, 1, 16]]) {
    // Before any work: less is cheap to guess at, more an attack on the machine.
    if (!Number.isSafeInteger(n) || n < least || n > most) throw new VaultError('ErrKDFParams', 'Argon2id parameters out of bounds');
  }
  return { m: k.m, t: k.t, p: k.p, salt: sized(k.salt, 16) };
}

function parseSlot(value) {
  const s = fields(value, ['commit', 'iv', 'ct']);
  return { commit: sized(s.commit, 32), sealed: concat(sized(s.iv, 12), sized(s.ct, 2 * KEY + TAG)) };
}

function parsePrevious(value, epoch) {
  if ((value === null) !== (epoch === 1)) throw new VaultError('ErrHeader', `prevvk in epoch ${epoch}`);
  if (value === null) return null;
  const p = fields(value, ['iv', 'ct']);
  return concat(sized(p.iv, 12), sized(p.ct, (epoch - 1) * KEY + TAG));
}

/**
 * Opens a header by its password and believes nothing of it before: in order
 * identity against the address, commitment and slot, vault key, identity in the
 * slot, signature.
 * @param {ReturnType<typeof parseHeader>} header
 * @param {ReturnType<typeof parseAddress>} address
 * @param {Uint8Array} kek what Argon2id gives for passwordBytes and header.kdf
 * @returns {Promise<{keys: EpochKeys[], identity: {did: string, sign: (message: Uint8Array) => Promise<Uint8Array>}}>}
 * keys are of epochs 1 to the current one; the last is the current one.
 * Errors: ErrIdentityMismatch, ErrPassword, ErrKeyCommit, ErrSignature, ErrAuth.
 */
export async function openHeader(header, address, kek) {
  if (header.vault !== address.vault) throw new VaultError('ErrIdentityMismatch', 'the server gave the header of another vault');
  await checkDID(address, header.did);
  const slot = await openSlot(header, kek);
  try {
    const vk = slot.subarray(0, KEY), ids = slot.subarray(KEY);
    if (!equal(await hk(vk, 'vk-check', context(header), 32), header.vkc)) throw new VaultError('ErrKeyCommit', 'the vault key is not that of the header');
    const identity = await identityOf(ids);
    if (identity.did !== header.did) throw new VaultError('ErrIdentityMismatch', 'the password is of another vault');
    if (!await identity.verify(header.sig, concat(text('vaultdrive/v1/header\0'), header.payload))) {
      throw new VaultError('ErrSignature', 'the header is not signed by the vault');
    }
    return { keys: await epochKeys(header, vk), identity };
  } finally {
    slot.fill(0);
  }
}

/** NFC and UTF-8 of a password, as Argon2id takes it. */
export const passwordBytes = password => text(password.normalize('NFC'));

async function openSlot(header, kek) {
  const okm = await hk(kek, 'pw-slot', context(header), 2 * KEY);
  // The commitment comes first: GCM alone would let one slot open under many passwords.
  if (!equal(okm.subarray(KEY), header.pw.commit)) throw new VaultError('ErrPassword', 'the password is wrong');
  const { m, t, p, salt } = header.kdf;
  const aad = concat(text('vaultdrive/v1/pw-slot\0'), uuidBytes(header.vault), uint32(header.epoch), uint32(m), uint32(t), uint32(p), salt);
  try {
    return await open(await gcmKey(okm.slice(0, KEY)), header.pw.sealed, aad);
  } catch {
    throw new VaultError('ErrPassword', 'the password is wrong');
  }
}

async function epochKeys(header, vk) {
  const keys = [];
  if (header.prevvk) {
    const key = await gcmKey(await hk(vk, 'prev-vk', context(header), KEY));
    const aad = concat(text('vaultdrive/v1/prev-vk\0'), uuidBytes(header.vault), uint32(header.epoch));
    const older = await open(key, header.prevvk, aad);
    for (let e = 1; e < header.epoch; e++) keys.push(await deriveEpoch(older.subarray((e - 1) * KEY, e * KEY), header.vault, e));
    older.fill(0);
  }
  keys.push(await deriveEpoch(vk, header.vault, header.epoch));
  return keys;
}

/**
 * The keys of an epoch that a page needs: encKey wraps file keys, titleKey seals
 * titles. Neither can be exported again.
 */
export async function deriveEpoch(vk, vault, epoch) {
  const ctx = concat(uuidBytes(vault), uint32(epoch));
  return {
    vault, epoch,
    encKey: await gcmKey(await hk(vk, 'enc-key', ctx, KEY)),
    titleKey: await gcmKey(await hk(vk, 'asset-title', ctx, KEY)),
  };
}

/** Opens the title of a parent. Errors: ErrFormat, ErrEncoding, ErrAuth. */
export async function openTitle(keys, parent) {
  const o = fields(parseJSON(parent.title_encrypted), ['iv', 'ciphertext']);
  const aad = concat(text('vaultdrive/v1/title\0'), uuidBytes(keys.vault), uuidBytes(parent.id));
  const plain = await open(keys.titleKey, concat(sized(o.iv, 12), fromBase64(o.ciphertext)), aad);
  return utf8(plain, 'ErrFormat');
}

/**
 * The signed answer to a challenge, as a page gives it: with the identity, and
 * the zero device. audience is the server's address as this client knows it.
 */
export async function answerChallenge(identity, audience, challenge, now = Date.now()) {
  const exp = now + 60_000;
  const message = concat(text('vaultdrive/v1/did-session\0'), prefixed(text(audience)), prefixed(text(identity.did)),
    uuidBytes(ZERO_ID), sized(challenge.nonce, 32), uint64(now), uint64(exp));
  return { did: identity.did, device: ZERO_ID, nonce: challenge.nonce, iat: now, exp, sig: base64(await identity.sign(message)) };
}

/** What begins a login of a page. */
export const askChallenge = identity => ({ did: identity.did, device: ZERO_ID });

/**
 * An Ed25519 identity of its 32-byte seed. The key that stays in the page signs,
 * and cannot be read out again.
 */
export async function identityOf(seed) {
  const pkcs8 = concat(Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20), seed);
  try {
    const readable = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign']);
    const { x } = await crypto.subtle.exportKey('jwk', readable);
    const publicKey = fromBase64(x.replaceAll('-', '+').replaceAll('_', '/') + '=');
    const verifier = await crypto.subtle.importKey('raw', publicKey, 'Ed25519', false, ['verify']);
    const signer = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', false, ['sign']);
    return {
      did: formatDID(publicKey),
      sign: async message => new Uint8Array(await crypto.subtle.sign('Ed25519', signer, message)),
      verify: (sig, message) => crypto.subtle.verify('Ed25519', verifier, sig, message),
    };
  } finally {
    pkcs8.fill(0);
  }
}

// did:key:z ‖ base58btc(ED 01 ‖ public key). No zero byte leads, so the digits
// that would stand for those have no place here.
function formatDID(publicKey) {
  const digits = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
  let n = concat(Uint8Array.of(0xed, 1), publicKey).reduce((sum, b) => sum << 8n | BigInt(b), 0n), out = '';
  for (; n > 0n; n /= 58n) out = digits[Number(n % 58n)] + out;
  return `did:key:z${out}`;
}

// ---- helpers

const context = header => concat(uuidBytes(header.vault), uint32(header.epoch));

// HKDF-SHA-256 with an empty salt: HK of CRYPTO.md.
async function hk(ikm, label, ctx, n) {
  const key = await crypto.subtle.importKey('raw', ikm, 'HKDF', false, ['deriveBits']);
  const info = concat(text(`vaultdrive/v1/${label}\0`), ctx);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info }, key, 8 * n));
}

export async function sha256(b) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', b));
}

// fields gives an object that has exactly these.
function fields(value, names) {
  if (value === null || typeof value !== 'object' || Object.keys(value).sort().join() !== [...names].sort().join()) {
    throw new VaultError('ErrFormat', `not an object of ${names.join(', ')}`);
  }
  return value;
}

function sized(s, n) {
  const b = fromBase64(s);
  if (b.length !== n) throw new VaultError('ErrFormat', `${b.length} bytes instead of ${n}`);
  return b;
}

function whole(n, least, most) {
  if (!Number.isSafeInteger(n) || n < least || n > most) throw new VaultError('ErrFormat', 'a number out of bounds');
}
