// A client of the server that was written from its published document alone. What
// is sealed comes from the module for browsers.
//
//   node apiclient.mjs < {"server","page","header","boot","seed","device","deviceSeed","vk","vault","epoch"}
import { webcrypto as crypto } from 'node:crypto';
import { strict as assert } from 'node:assert';
import { become, call, fits, given, login, refused, used, want } from './apidocument.mjs';

const { encryptAttachment, decryptAttachment } = await import(`${given.page}/vault-attachment-crypto.js`);
const { deriveEpoch } = await import(`${given.page}/vault-header.js`);
const seed = Buffer.from(given.seed, 'base64');
const did = JSON.parse(Buffer.from(given.header.payload, 'base64')).did;
const hash = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(given.boot, 'hex'))).toString('hex');
const { encKey } = await deriveEpoch(Uint8Array.from(Buffer.from(given.vk, 'base64')), given.vault, given.epoch);
const list = '/api/vault/attachments', one = '/api/vault/attachments/{id}';

await want(200, 'GET', '/healthz');
await want(200, 'GET', '/readyz');
await want(201, 'POST', '/v1/vaults', { body: { header: given.header, boot: hash } });
await want(200, 'POST', '/v1/vaults', { body: { header: given.header, boot: hash } });
const seq = { vault: given.vault, seq: '0' };
assert.deepEqual(await want(200, 'GET', '/v1/vaults/{vault}/headers/{seq}', { path: seq, headers: { 'Vault-Boot': given.boot } }), given.header);
await refused(401, 'session_invalid', 'GET', '/v1/vaults/{vault}/headers/{seq}', { path: seq, headers: { 'Vault-Boot': 'ab'.repeat(16) } });

await refused(401, 'session_invalid', 'GET', '/v1/usage');
await refused(401, 'session_invalid', 'POST', '/v1/auth/session', { body: await login(did, seed, { audience: 'https://other.example' }) });
const proof = await login(did, seed);
become((await want(201, 'POST', '/v1/auth/session', { body: proof })).token);
await refused(401, 'session_invalid', 'POST', '/v1/auth/session', { body: proof });
await refused(403, 'page_session', 'GET', '/v1/vaults/{vault}/blobs', { path: { vault: given.vault } });

const parent = { type: 'item', id: crypto.randomUUID() };
const title = { title_encrypted: JSON.stringify({ iv: 'AAAAAAAAAAAAAAAA', ciphertext: 'AAAAAAAAAAAAAAAAAAAAAA==' }), epoch: given.epoch };
await refused(404, 'parent_not_found', 'GET', list, { query: { parent_id: parent.id, parent_type: 'item' } });
await want(201, 'PUT', '/api/vault/parents/{type}/{id}', { path: parent, body: title });
await want(200, 'PUT', '/api/vault/parents/{type}/{id}', { path: parent, body: title });
assert.equal((await want(200, 'GET', '/api/vault/parents')).parents[0].id, parent.id);

const content = new Uint8Array(300_000).map((_, i) => i * 7);
const sealed = await encryptAttachment(new File([content], 'Ünïcode 🔐.bin', { type: 'application/x-test' }), encKey);
const upload = {
  parent_id: parent.id, parent_type: parent.type, file_name_encrypted: sealed.fileNameEncrypted, content_type_encrypted: sealed.contentTypeEncrypted,
  size_bytes: sealed.sizeBytes, wrapped_file_key: sealed.wrappedFileKey, encryption_version: 3, epoch: given.epoch, encrypted_content: sealed.encryptedContent,
};
const headers = { 'Idempotency-Key': crypto.randomUUID() };
const row = await want(201, 'POST', list, { headers, body: upload });
assert.equal(fits({ $ref: '#/components/schemas/Row' }, row), '');
assert.equal((await want(200, 'POST', list, { headers, body: upload })).id, row.id);
await refused(409, 'idempotency_conflict', 'POST', list, { headers, body: { ...upload, size_bytes: 2, encrypted_content: sealed.encryptedContent.slice(0, 40) } });
await refused(422, 'length_mismatch', 'POST', list, { body: { ...upload, size_bytes: 5 } });
await refused(400, 'unsupported_version', 'POST', list, { body: { ...upload, encryption_version: 4 }, wrong: true });
await refused(400, 'bad_request', 'POST', list, { body: { ...upload, encrypted_content: 'no base64' } });
await refused(404, 'parent_not_found', 'POST', list, { body: { ...upload, parent_id: crypto.randomUUID() } });

const rows = await want(200, 'GET', list, { query: { parent_id: parent.id, parent_type: parent.type } });
assert.deepEqual(rows.attachments.map(r => r.id), [row.id]);
const record = await want(200, 'GET', one, { path: { id: row.id } });
const opened = await decryptAttachment(record, encKey);
assert.equal(opened.name, 'Ünïcode 🔐.bin');
assert.equal(opened.type, 'application/x-test');
assert(Buffer.from(opened.content).equals(Buffer.from(content)));

const raw = Buffer.from(sealed.encryptedContent, 'base64');
const whole = await call('GET', `${one}/content`, { path: { id: row.id } });
assert(whole.status === 200 && raw.equals(Buffer.from(whole.body)));
const part = await call('GET', `${one}/content`, { path: { id: row.id }, headers: { Range: 'bytes=1000-1999' } });
assert(part.status === 206 && raw.subarray(1000, 2000).equals(Buffer.from(part.body)));
assert.equal((await call('GET', `${one}/content`, { path: { id: row.id }, headers: { 'If-None-Match': whole.headers.get('ETag') } })).status, 304);
await refused(416, 'range_invalid', 'GET', `${one}/content`, { path: { id: row.id }, headers: { Range: 'bytes=9999999-' } });

// A device may send the content as it is.
await refused(403, 'page_session', 'POST', list, { form: { metadata: await metadata(), content: raw } });
const page = await want(200, 'GET', '/v1/usage');
const device = await login(did, Buffer.from(given.deviceSeed, 'base64'), { device: given.device });
become((await want(201, 'POST', '/v1/auth/session', { body: device })).token);
const form = { metadata: await metadata(), content: raw };
const stored = await want(201, 'POST', list, { form });
assert(stored.by === given.device && stored.blob_id === form.metadata.blob_id);
await want(200, 'POST', list, { form });
await refused(422, 'hash_mismatch', 'POST', list, { form: { metadata: await metadata(), content: raw.map(b => b ^ 1) } });
await refused(422, 'length_mismatch', 'POST', list, { form: { metadata: await metadata(), content: raw.subarray(1) } });
const blob = await call('GET', '/v1/vaults/{vault}/blobs/{blob}', { path: { vault: given.vault, blob: stored.blob_id }, headers: { Range: 'bytes=-100' } });
assert(blob.status === 206 && raw.subarray(-100).equals(Buffer.from(blob.body)));
assert.equal((await decryptAttachment(await want(200, 'GET', one, { path: { id: stored.id } }), encKey)).name, opened.name);
await want(204, 'DELETE', one, { path: { id: stored.id } });
assert.deepEqual((await want(200, 'GET', '/v1/usage')).usage, page.usage);

const usage = await want(200, 'GET', '/v1/usage');
assert.equal(usage.usage, raw.length);
await refused(409, 'parent_not_empty', 'DELETE', '/api/vault/parents/{type}/{id}', { path: parent });
await want(204, 'DELETE', one, { path: { id: row.id } });
await want(204, 'DELETE', one, { path: { id: row.id } });
await refused(410, 'deleted', 'GET', one, { path: { id: row.id } });
await refused(404, 'not_found', 'GET', one, { path: { id: crypto.randomUUID() } });
await want(204, 'DELETE', '/api/vault/parents/{type}/{id}', { path: parent });
assert.equal((await want(200, 'GET', '/v1/usage')).usage, 0);
await want(204, 'DELETE', '/v1/auth/session');
await refused(401, 'session_invalid', 'GET', '/v1/usage');
console.log(`${used.size} calls of the document, every answer as it says`);

// metadata is that of another attachment with the same content.
async function metadata() {
  const sha256 = Buffer.from(await crypto.subtle.digest('SHA-256', raw)).toString('hex');
  const blob_id = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex');
  return { blob_id, stored_bytes: raw.length, sha256, size_bytes: row.size_bytes, encryption_version: 3, at: 0,
    row: { ...row, id: crypto.randomUUID(), blob_id, version: 0 } };
}
