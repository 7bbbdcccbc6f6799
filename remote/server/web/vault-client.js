// What a page says to the server: the calls of /v1/openapi.json that a page may
// make. Sealing and opening are of the other modules; nothing else leaves here.
import { VaultError, hex } from './vault-bytes.js';
import { CHUNK, SEALED_CHUNK, decryptAttachment, decryptNames, encryptAttachment, openContent } from './vault-attachment-crypto.js';
import { answerChallenge, askChallenge } from './vault-header.js';

/** An answer that is no success; `code` is the server's word for it. */
export class ServerError extends Error {
  constructor(status, body, retryAfter) {
    super(body?.error ?? `the server answers ${status}`);
    this.name = 'ServerError';
    this.status = status;
    this.code = body?.code ?? '';
    this.retryAfter = retryAfter; // seconds, or NaN
    this.remaining = body?.remaining;
  }
}

const HEAD4 = 64;
const CHUNKS_AT_ONCE = 256; // 4 MiB
const PAGE = 200;
const ATTEMPTS = 3, PAUSE = 1000; // of an upload; ms, longer each time
const UNKNOWN = 'application/octet-stream'; // without a type browsers guess, and add an ending to the name

export class VaultClient {
  #origin;
  #identity = null;
  #session = null;
  #keys = [];

  /** origin is scheme://host[:port], which logins are bound to. */
  constructor(origin) {
    this.#origin = origin;
  }

  /** The newest header of the vault, as text. */
  async header(address) {
    const res = await this.#fetch('GET', `/v1/vaults/${address.vault}/headers/0`, { 'Vault-Boot': hex(address.boot) });
    return res.text();
  }

  /** Takes what openHeader gives, and logs in. */
  async login({ identity, keys }) {
    this.#identity = identity;
    this.#keys = keys;
    await this.#renew();
  }

  /** Forgets keys and session, here and on the server. */
  async logout() {
    const session = this.#session;
    this.#identity = this.#session = null;
    this.#keys = [];
    if (session) await this.#fetch('DELETE', '/v1/auth/session', { Authorization: `Bearer ${session.token}` });
  }

  async usage() {
    return (await this.#call('GET', '/v1/usage')).json();
  }

  /** All parents that live. */
  async parents() {
    const all = [];
    for (let after = ''; after !== null;) {
      const page = await (await this.#call('GET', `/api/vault/parents?limit=${PAGE}&after=${encodeURIComponent(after)}`)).json();
      all.push(...page.parents.filter(p => p.state === 'live'));
      after = page.next;
    }
    return all;
  }

  /** The keys of an epoch. Error: ErrEpoch for one that this session has not. */
  keysOf(epoch) {
    const keys = this.#keys[epoch - 1];
    if (!keys) throw new VaultError('ErrEpoch', 'sealed after this page was unlocked: unlock it again');
    return keys;
  }

  /** A page of the attachments of a parent: {attachments, next}. */
  async attachments(parent, after = '') {
    const query = new URLSearchParams({ parent_id: parent.id, parent_type: parent.type, limit: PAGE, after });
    return (await this.#call('GET', `/api/vault/attachments?${query}`)).json();
  }

  /** Name and type of a row. */
  names(row) {
    return this.#withKey(row, key => decryptNames(row, key));
  }

  /** Seals a file and stores it; progress gets bytes sent and bytes in all. */
  async upload(parent, file, progress = () => {}) {
    const { encKey, epoch } = this.#keys.at(-1);
    const sealed = await encryptAttachment(file, encKey);
    const body = JSON.stringify({
      parent_id: parent.id, parent_type: parent.type, file_name_encrypted: sealed.fileNameEncrypted,
      content_type_encrypted: sealed.contentTypeEncrypted, size_bytes: sealed.sizeBytes, wrapped_file_key: sealed.wrappedFileKey,
      encryption_version: 3, epoch, encrypted_content: sealed.encryptedContent,
    });
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID() };
    for (let attempt = 1; ; attempt++) {
      try {
        return await (await this.#call('POST', '/api/vault/attachments', headers, body, progress)).json();
      } catch (err) {
        // A connection that broke leaves it open whether the file was stored: by
        // its key the server knows a repetition, and answers with the same row.
        if (!(err instanceof TypeError) || attempt === ATTEMPTS) throw err;
        await new Promise(resolve => { setTimeout(resolve, attempt * PAUSE); });
      }
    }
  }

  /**
   * Fetches and opens a file; progress gets bytes opened and bytes in all.
   * Nothing is given out before all of it is authentic.
   */
  async download(row, progress = () => {}) {
    const record = await (await this.#call('GET', `/api/vault/attachments/${row.id}`)).json();
    // Which file this is, is what was asked for, not what the answer says.
    if (record.id !== row.id || record.vault_id !== this.#keys[0].vault) throw new VaultError('ErrFormat', 'the server answers with another file');
    return this.#withKey(record, async key => {
      if (record.encryption_version === 4) return this.#download4(record, key, progress);
      const { name, type, content } = await decryptAttachment(record, key);
      progress(content.length, content.length);
      return { name, type, blob: new Blob([content], { type: type || UNKNOWN }) };
    });
  }

  async #download4(record, key, progress) {
    const { name, type } = await decryptNames(record, key);
    const v4 = await openContent(record, key, await this.#range(record.id, 0, HEAD4));
    const parts = [];
    for (let k = 0; k < v4.chunks; k += CHUNKS_AT_ONCE) {
      const from = HEAD4 + k * SEALED_CHUNK, to = Math.min(from + CHUNKS_AT_ONCE * SEALED_CHUNK, v4.stored);
      // As a Blob each piece can leave the memory of the page.
      parts.push(new Blob([await v4.open(await this.#range(record.id, from, to), k)]));
      progress(Math.min(v4.size, (k + CHUNKS_AT_ONCE) * CHUNK), v4.size);
    }
    return { name, type, blob: new Blob(parts, { type: type || UNKNOWN }) };
  }

  async #range(id, from, to) {
    const res = await this.#call('GET', `/api/vault/attachments/${id}/content`, { Range: `bytes=${from}-${to - 1}` });
    const bytes = new Uint8Array(await res.arrayBuffer());
    if (res.status !== 206 || bytes.length !== to - from) throw new VaultError('ErrTruncated', 'the server has not all of the content');
    return bytes;
  }

  async remove(id) {
    await this.#call('DELETE', `/api/vault/attachments/${id}`);
  }

  // A row says the epoch of its key, if its writer did: else the newest that opens it.
  async #withKey(row, use) {
    if (row.epoch !== null && row.epoch !== undefined) return use(this.keysOf(row.epoch).encKey);
    for (const keys of this.#keys.toReversed()) {
      const opens = await decryptNames(row, keys.encKey).then(() => true, () => false);
      if (opens) return use(keys.encKey);
    }
    return use(this.#keys.at(-1).encKey); // and let it say why not
  }

  async #renew() {
    const post = async (path, body) => (await this.#fetch('POST', path, { 'Content-Type': 'application/json' }, JSON.stringify(body))).json();
    const challenge = await post('/v1/auth/challenge', askChallenge(this.#identity));
    this.#session = await post('/v1/auth/session', await answerChallenge(this.#identity, this.#origin, challenge));
  }

  // With a session, which is renewed when it has ended or is about to.
  async #call(method, path, headers = {}, body, progress) {
    if (!this.#identity) throw new VaultError('ErrLocked', 'the page is locked');
    const once = () => this.#fetch(method, path, { ...headers, Authorization: `Bearer ${this.#session.token}` }, body, progress);
    if (Date.now() > this.#session.exp - 60_000) await this.#renew();
    try {
      return await once();
    } catch (err) {
      if (!(err instanceof ServerError) || err.status !== 401) throw err;
      await this.#renew();
      return once();
    }
  }

  async #fetch(method, path, headers, body, progress) {
    const send = progress && typeof XMLHttpRequest !== 'undefined' ? sendWithProgress : fetch;
    const res = await send(this.#origin + path, { method, headers, body, progress, credentials: 'omit', redirect: 'error', cache: 'no-store' });
    if (res.ok) return res;
    const problem = await res.json().catch(() => null);
    throw new ServerError(res.status, problem, Number.parseInt(res.headers.get('Retry-After'), 10));
  }
}

// fetch does not tell how much of a body is sent.
function sendWithProgress(url, { method, headers, body, progress }) {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open(method, url);
    for (const [name, value] of Object.entries(headers)) x.setRequestHeader(name, value);
    x.responseType = 'blob';
    x.upload.onprogress = e => progress(e.loaded, e.total);
    x.onload = () => resolve(new Response(x.status === 204 ? null : x.response, {
      status: x.status, headers: { 'Retry-After': x.getResponseHeader('Retry-After') ?? '' },
    }));
    x.onerror = () => reject(new TypeError('the server cannot be reached'));
    x.send(body);
  });
}
