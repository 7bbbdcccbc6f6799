// A client of the server that was written from its published document alone: it
// calls only what /v1/openapi.json lists, in the way it says, and holds every
// answer against it. What is sealed comes from the module for browsers.
//
//   node apiclient.mjs < {"server","page","header","boot","seed","vk","vault","epoch"}
import { webcrypto as crypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { strict as assert } from 'node:assert';

const given = JSON.parse(readFileSync(0, 'utf8'));
const { encryptAttachment, decryptAttachment } = await import(`${given.page}/vault-attachment-crypto.js`);
const { deriveEpoch } = await import(`${given.page}/vault-header.js`);
const doc = await (await fetch(`${given.server}/v1/openapi.json`)).json();
const used = new Set();
let token = null;

// ---- the document as a client

// fits says what is wrong with a value, by the schema; '' if nothing.
function fits(schema, value, at = 'body') {
  if (schema.$ref) return fits(doc.components.schemas[schema.$ref.split('/').at(-1)], value, at);
  if (schema.allOf) return schema.allOf.map(s => fits(s, value, at)).find(Boolean) ?? '';
  if (schema.anyOf) return schema.anyOf.some(s => fits(s, value, at) === '') ? '' : `${at} is none of its forms`;
  const kinds = { string: v => typeof v === 'string', integer: Number.isSafeInteger, array: Array.isArray, null: v => v === null, boolean: v => typeof v === 'boolean',
    object: v => v !== null && typeof v === 'object' && !Array.isArray(v) };
  if (schema.type && !kinds[schema.type](value)) return `${at} is no ${schema.type}: ${JSON.stringify(value)}`;
  if (schema.enum && !schema.enum.includes(value)) return `${at} is none of ${schema.enum}: ${value}`;
  if (schema.pattern && !new RegExp(schema.pattern).test(value)) return `${at} does not match ${schema.pattern}: ${value}`;
  if (schema.format === 'uuid' && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)) return `${at} is no uuid: ${value}`;
  if (schema.format === 'date-time' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)) return `${at} is no time: ${value}`;
  if (schema.items) return value.map((v, i) => fits(schema.items, v, `${at}[${i}]`)).find(Boolean) ?? '';
  for (const name of schema.required ?? []) if (!(name in value)) return `${at} has no ${name}`;
  for (const [name, s] of Object.entries(schema.properties ?? {})) {
    const wrong = name in value ? fits(s, value[name], `${at}.${name}`) : '';
    if (wrong) return wrong;
  }
  return '';
}

// call makes a call of the document and gives {status, body}. Options: path,
// query, headers, body; wrong: the body is meant not to fit.
async function call(method, template, { path = {}, query = {}, headers = {}, body, wrong = false } = {}) {
  const op = doc.paths[template]?.[method.toLowerCase()];
  assert(op, `${method} ${template} is not in the document`);
  used.add(`${method} ${template}`);
  const places = { path, query, header: headers };
  for (const p of op.parameters ?? []) assert(!p.required || p.name in places[p.in], `${template} needs ${p.name}`);
  for (const [where, values] of [['query', query], ['header', headers]]) {
    for (const name of Object.keys(values)) {
      const scheme = where === 'header' && Object.values(doc.components.securitySchemes).some(s => s.in === 'header' && s.name === name);
      assert(scheme || op.parameters?.some(p => p.in === where && p.name === name), `${template} knows no ${name}`);
    }
  }
  const send = { ...headers };
  if (token && op.security.some(s => 'session' in s)) send.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    const form = op.requestBody.content['application/json'];
    assert(form, `${template} takes no JSON`);
    if (!wrong) assert.equal(fits(form.schema, body), '', `${template}: what is sent`);
    send['Content-Type'] = 'application/json';
  }
  const url = given.server + template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name])) + (Object.keys(query).length ? `?${new URLSearchParams(query)}` : '');
  const res = await fetch(url, { method, headers: send, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = op.responses[res.status], bytes = new Uint8Array(await res.arrayBuffer());
  assert(said, `${method} ${template} answers ${res.status}, which is not in the document: ${res.ok ? '' : new TextDecoder().decode(bytes)}`);
  const kind = res.headers.get('Content-Type')?.split(';')[0];
  assert(bytes.length === 0 || said.content?.[kind], `${template} answers ${kind}, which is not in the document`);
  if (kind !== 'application/json') return { status: res.status, body: bytes, headers: res.headers };
  const answer = JSON.parse(new TextDecoder().decode(bytes));
  assert.equal(fits(said.content[kind].schema, answer), '', `${template}: the answer`);
  return { status: res.status, body: answer, headers: res.headers };
}

async function want(status, method, template, options) {
  const got = await call(method, template, options);
  assert.equal(got.status, status, `${method} ${template}: ${JSON.stringify(got.body)}`);
  return got.body;
}

async function refused(status, code, method, template, options) {
  const body = await want(status, method, template, options);
  assert.equal(body.code, code, `${method} ${template}`);
  assert(body.request_id && body.error);
}

// ---- the login message, as info.description says it

const big = (n, size) => Uint8Array.from({ length: size }, (_, i) => Number(BigInt(n) >> BigInt(8 * (size - 1 - i)) & 255n));
const utf8 = s => new TextEncoder().encode(s);
const prefixed = s => [big(utf8(s).length, 4), utf8(s)];

async function login(did, seed, audience = given.server) {
  const device = '00000000-0000-0000-0000-000000000000';
  const { nonce } = await want(200, 'POST', '/v1/auth/challenge', { body: { did, device } });
  const iat = Date.now(), exp = iat + 60000;
  const message = Buffer.concat([utf8('vaultdrive/v1/did-session\0'), ...prefixed(audience), ...prefixed(did), new Uint8Array(16), Buffer.from(nonce, 'base64'), big(iat, 8), big(exp, 8)]);
  const key = await crypto.subtle.importKey('pkcs8', Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), 'Ed25519', false, ['sign']);
  const sig = Buffer.from(await crypto.subtle.sign('Ed25519', key, message)).toString('base64');
  return { did, device, nonce, iat, exp, sig };
}

// ---- the flow

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
await refused(401, 'session_invalid', 'POST', '/v1/auth/session', { body: await login(did, seed, 'https://other.example') });
const proof = await login(did, seed);
token = (await want(201, 'POST', '/v1/auth/session', { body: proof })).token;
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
