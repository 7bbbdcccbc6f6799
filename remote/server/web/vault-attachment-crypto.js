// Attachments of a vault, sealed and opened with WebCrypto alone (CRYPTO.md
// sections 4 and 5). The server never sees what goes in or comes out here.
//
//   const sealed = await encryptAttachment(file, encKey)
//   const { name, type, content } = await decryptAttachment(record, encKey)
//
// encKey is the vault's key of the record's epoch: a CryptoKey for AES-GCM, or
// its 32 bytes. Keys of a vault come from vault-header.js.
import { VaultError, base64, bytesOf, concat, equal, fromBase64, fromHex, parseJSON, text, utf8, uuidBytes } from './vault-bytes.js';

export { VaultError };

const IV = 12, TAG = 16, KEY = 32;
const WRAPPED = KEY + TAG;
const HEAD4 = 64, SALT4 = 24;
const MAGIC4 = text('VDBLOB4\n');

/** Longest plaintext of version 3, in bytes: 25 MiB. */
export const MAX_FILE = 25 * 1024 * 1024;
/** Bytes of plaintext in a chunk of version 4, and bytes of it sealed. */
export const CHUNK = 16384, SEALED_CHUNK = CHUNK + TAG;
/** Longest name and MIME type, in bytes of UTF-8. */
export const MAX_NAME = 4096, MAX_TYPE = 255;

/**
 * Seals a file as version 3: a new file key, and a new random IV for each of
 * content, name, type and wrapped key.
 * @param {Blob & {name?: string}} file a File, or any Blob with a name
 * @param {CryptoKey|Uint8Array} encKey
 * @returns {Promise<{encryptedContent: string, wrappedFileKey: {iv: string, ciphertext: string},
 *   fileNameEncrypted: string, contentTypeEncrypted: string, sizeBytes: number}>}
 * Errors: ErrTooLarge, ErrName.
 */
export async function encryptAttachment(file, encKey) {
  if (file.size > MAX_FILE) throw new VaultError('ErrTooLarge', `a file has at most ${MAX_FILE} bytes`);
  const name = checkedName(file.name ?? ''), type = bytesOf(file.type ?? '');
  if (type.length > MAX_TYPE) throw new VaultError('ErrFormat', 'the type is too long');
  const wrapper = await gcmKey(encKey);
  const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt', 'decrypt']);
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', key));
  try {
    const plain = new Uint8Array(await file.arrayBuffer());
    if (plain.length > MAX_FILE) throw new VaultError('ErrTooLarge', 'the file grew');
    return {
      encryptedContent: base64(await seal(key, plain)),
      wrappedFileKey: pair(await seal(wrapper, raw)),
      fileNameEncrypted: JSON.stringify(pair(await seal(key, name))),
      contentTypeEncrypted: JSON.stringify(pair(await seal(key, type))),
      sizeBytes: plain.length,
    };
  } finally {
    raw.fill(0);
  }
}

/**
 * Opens what the server answers for an attachment. Of version 3 the content is
 * in the record; of version 4 it is given beside it, all of the sealed bytes.
 * Nothing is returned unless all of it is authentic.
 * @param {object} record with the fields of the API
 * @param {CryptoKey|Uint8Array} encKey of the record's epoch
 * @param {Uint8Array} [sealed] of version 4
 * @returns {Promise<{name: string, type: string, content: Uint8Array}>}
 * Errors: ErrVersion, ErrEncoding, ErrFormat, ErrTruncated, ErrTooLarge,
 * ErrSize, ErrKeyCommit, ErrAuth, ErrName.
 */
export async function decryptAttachment(record, encKey, sealed) {
  const version = versionOf(record), size = sizeOf(record);
  const fileKey = await unwrapFileKey(record, encKey);
  try {
    const { name, type } = await openTexts(record, fileKey);
    if (version === 3) {
      return { name, type, content: await openV3(record, fileKey, size) };
    }
    if (!(sealed instanceof Uint8Array)) throw new VaultError('ErrTruncated', 'version 4 needs its content');
    const v4 = await openHead(record, fileKey, sealed.subarray(0, HEAD4));
    if (sealed.length < v4.stored) throw new VaultError('ErrTruncated', 'the content ends early');
    return { name, type, content: await v4.open(sealed.subarray(HEAD4), 0) };
  } finally {
    fileKey.fill(0);
  }
}

/**
 * Opens the name and type of a record, as a list shows them.
 * Errors: as decryptAttachment.
 */
export async function decryptNames(record, encKey) {
  versionOf(record);
  const fileKey = await unwrapFileKey(record, encKey);
  try {
    return await openTexts(record, fileKey);
  } finally {
    fileKey.fill(0);
  }
}

/**
 * Prepares reading a version 4 content in pieces. head is its first 64 bytes.
 * The result has `size` (bytes of plaintext), `stored` (bytes sealed) and
 * `open(chunks, first)`, which opens whole chunks from number `first` on.
 * Errors: ErrVersion, ErrTruncated, ErrFormat, ErrSize, ErrKeyCommit, ErrAuth.
 */
export async function openContent(record, encKey, head) {
  if (versionOf(record) !== 4) throw new VaultError('ErrVersion', 'only version 4 is read in pieces');
  const fileKey = await unwrapFileKey(record, encKey);
  try {
    return await openHead(record, fileKey, head);
  } finally {
    fileKey.fill(0);
  }
}

/** Length of a version 4 blob for a plaintext of so many bytes. */
export function sealedSize4(plain) {
  return HEAD4 + plain + TAG * (Math.floor(plain / CHUNK) + 1);
}

// ---- version 3

async function openV3(record, fileKey, size) {
  const blob = fromBase64(record.encrypted_content);
  if (blob.length < IV + TAG) throw new VaultError('ErrTruncated', 'the content is too short');
  if (blob.length > MAX_FILE + IV + TAG) throw new VaultError('ErrTooLarge', 'the content is too long');
  if (blob.length !== size + IV + TAG) throw new VaultError('ErrSize', 'the content has another length than the record says');
  return open(await gcmKey(fileKey), blob);
}

// ---- version 4: c2sp.org/chunked-encryption behind a magic

async function openHead(record, fileKey, head) {
  const size = sizeOf(record);
  if (head.length < HEAD4) throw new VaultError('ErrTruncated', 'the content is too short');
  if (!equal(head.subarray(0, MAGIC4.length), MAGIC4)) throw new VaultError('ErrFormat', 'not a version 4 content');
  const context = concat(text('vaultdrive/v4/content\0'), uuidBytes(record.vault_id), blobBytes(record.blob_id));
  const info = concat(text('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0'), head.subarray(8, 8 + SALT4), context);
  const okm = await expand512(fileKey, info, KEY + IV + 32);
  if (!equal(okm.subarray(KEY + IV), head.subarray(8 + SALT4))) throw new VaultError('ErrKeyCommit', 'the key is not that of this content');
  return new Content4(await gcmKey(okm.subarray(0, KEY)), okm.slice(KEY, KEY + IV), size);
}

class Content4 {
  #key;
  #base;

  constructor(key, base, size) {
    this.#key = key;
    this.#base = base;
    this.size = size;
    this.chunks = Math.floor(size / CHUNK) + 1;
    this.stored = sealedSize4(size);
  }

  /**
   * Opens whole chunks, the first of which has that number. The last chunk of a
   * content is the one that is short. All of them are authentic, or none is
   * returned.
   */
  async open(sealed, first) {
    const end = Math.min(this.chunks, first + Math.max(1, Math.ceil(sealed.length / SEALED_CHUNK)));
    const want = (end === this.chunks ? this.stored - HEAD4 : end * SEALED_CHUNK) - first * SEALED_CHUNK;
    if (sealed.length < want) throw new VaultError('ErrTruncated', 'the content ends early');
    if (sealed.length > want) throw new VaultError('ErrSize', 'the content has another length than the record says');
    const opened = [];
    for (let k = first, at = 0; k < end; k++, at += SEALED_CHUNK) {
      opened.push(decrypt(this.#key, this.#nonce(k), sealed.subarray(at, at + SEALED_CHUNK)));
    }
    return concat(...await Promise.all(opened));
  }

  // The base with the number of the chunk, which is below 2^27, in its last four bytes.
  #nonce(k) {
    const n = Uint8Array.from(this.#base), view = new DataView(n.buffer);
    view.setUint32(8, view.getUint32(8) ^ k);
    return n;
  }
}

// ---- what both have

function versionOf(record) {
  const v = record?.encryption_version;
  if (v !== 3 && v !== 4) throw new VaultError('ErrVersion', `encryption_version ${v}`);
  return v;
}

function sizeOf(record) {
  const n = record.size_bytes, most = record.encryption_version === 3 ? MAX_FILE : 2 ** 40;
  if (!Number.isSafeInteger(n) || n < 0) throw new VaultError('ErrSize', 'size_bytes is no length');
  if (n > most) throw new VaultError('ErrTooLarge', 'size_bytes is beyond the format');
  return n;
}

async function unwrapFileKey(record, encKey) {
  const wrapped = wire(record.wrapped_file_key);
  if (wrapped.length !== IV + WRAPPED) throw new VaultError('ErrFormat', 'the wrapped key has another length');
  return open(await gcmKey(encKey), wrapped);
}

async function openTexts(record, fileKey) {
  const field = async (value, label) => {
    if (record.encryption_version === 3) return open(await gcmKey(fileKey), wire(value));
    const ids = concat(uuidBytes(record.vault_id), uuidBytes(record.id));
    const meta = await expand512(fileKey, concat(text('vaultdrive/v4/meta\0'), ids), KEY);
    return open(await gcmKey(meta), wire(value), concat(text(`vaultdrive/v4/${label}\0`), ids));
  };
  const name = utf8(await field(record.file_name_encrypted, 'name'), 'ErrName');
  if (name === '') throw new VaultError('ErrName', 'the name is empty');
  return { name, type: utf8(await field(record.content_type_encrypted, 'mime'), 'ErrFormat') };
}

function checkedName(name) {
  const b = bytesOf(name);
  if (b.length === 0 || b.length > MAX_NAME) throw new VaultError('ErrName', `a name has 1 to ${MAX_NAME} bytes`);
  return b;
}

// wire reads {"iv","ciphertext"}, or a JSON text of it, as IV and ciphertext.
function wire(value) {
  const o = typeof value === 'string' ? parseJSON(value) : value;
  if (o === null || typeof o !== 'object' || Object.keys(o).sort().join() !== 'ciphertext,iv') {
    throw new VaultError('ErrFormat', 'not {"iv","ciphertext"}');
  }
  const iv = fromBase64(o.iv), sealed = fromBase64(o.ciphertext);
  if (iv.length !== IV || sealed.length < TAG) throw new VaultError('ErrFormat', 'iv or ciphertext has another length');
  return concat(iv, sealed);
}

function pair(sealed) {
  return { iv: base64(sealed.subarray(0, IV)), ciphertext: base64(sealed.subarray(IV)) };
}

function blobBytes(id) {
  const b = fromHex(id);
  if (b.length !== 16) throw new VaultError('ErrFormat', 'not a blob id');
  return b;
}

// ---- WebCrypto

/** A CryptoKey for AES-256-GCM, of the key itself or of its 32 bytes. */
export async function gcmKey(key) {
  if (!(key instanceof Uint8Array)) return key;
  if (key.length !== KEY) throw new VaultError('ErrFormat', 'a key has 32 bytes');
  return crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt']);
}

/** Seals under a new random IV, which comes first in the result. */
export async function seal(key, plain, additionalData = new Uint8Array()) {
  const iv = crypto.getRandomValues(new Uint8Array(IV));
  return concat(iv, new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, key, plain)));
}

/** Opens IV and ciphertext. Errors: ErrFormat, ErrAuth. */
export async function open(key, sealed, additionalData = new Uint8Array()) {
  if (sealed.length < IV + TAG) throw new VaultError('ErrFormat', 'too short to be sealed');
  return decrypt(key, sealed.subarray(0, IV), sealed.subarray(IV), additionalData);
}

async function decrypt(key, iv, sealed, additionalData = new Uint8Array()) {
  try {
    return new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData }, key, sealed));
  } catch {
    throw new VaultError('ErrAuth', 'not authentic: damaged, or of another key');
  }
}

// HKDF-Expand with SHA-512 and no extract step (RFC 5869 section 2.3).
async function expand512(prk, info, n) {
  const key = await crypto.subtle.importKey('raw', prk, { name: 'HMAC', hash: 'SHA-512' }, false, ['sign']);
  let block = new Uint8Array(), out = new Uint8Array();
  for (let i = 1; out.length < n; i++) {
    block = new Uint8Array(await crypto.subtle.sign('HMAC', key, concat(block, info, Uint8Array.of(i))));
    out = concat(out, block);
  }
  return out.slice(0, n);
}
