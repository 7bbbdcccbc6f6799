// Runs the modules of the page for the Go tests: a line {op, …} in, a line of the
// result or {error: code} out. Bytes are base64 by Buffer, not by the code under test.
import { createInterface } from 'node:readline';
import * as attachments from '../vault-attachment-crypto.js';
import * as header from '../vault-header.js';
import { fromBase64, base64, parseJSON } from '../vault-bytes.js';
import { argon2id } from '../argon2.js';
import { fileName } from '../view.js';
import { VaultClient } from '../vault-client.js';

const bytes = s => Uint8Array.from(Buffer.from(s, 'base64'));
const out = b => Buffer.from(b).toString('base64');
const encKey = async ({ vk, vault, epoch }) => (await header.deriveEpoch(bytes(vk), vault, epoch)).encKey;

let client = null;

const ops = {
  async encrypt(q) {
    const plain = bytes(q.plain);
    const file = { name: q.name, type: q.type, size: q.size ?? plain.length, arrayBuffer: async () => plain.buffer };
    return attachments.encryptAttachment(file, await encKey(q));
  },
  async decrypt(q) {
    const sealed = q.sealed === undefined ? undefined : bytes(q.sealed);
    const r = await attachments.decryptAttachment(q.record, await encKey(q), sealed);
    return { name: r.name, type: r.type, content: out(r.content) };
  },
  async names(q) { return attachments.decryptNames(q.record, await encKey(q)); },
  async pieces(q) { // chunks first to first + n alone
    const sealed = bytes(q.sealed), { SEALED_CHUNK } = attachments;
    const v4 = await attachments.openContent(q.record, await encKey(q), sealed.subarray(0, 64));
    return { content: out(await v4.open(sealed.subarray(64 + q.first * SEALED_CHUNK, 64 + (q.first + q.n) * SEALED_CHUNK), q.first)) };
  },
  async header(q) {
    const parsed = header.parseHeader(q.header);
    const opened = await header.openHeader(parsed, header.parseAddress(q.address), bytes(q.kek));
    const titles = [];
    for (const t of q.titles ?? []) titles.push(await header.openTitle(opened.keys[t.epoch - 1], t));
    return { did: opened.identity.did, epochs: opened.keys.map(k => k.epoch), kdf: { m: parsed.kdf.m, salt: out(parsed.kdf.salt) }, titles };
  },
  async login(q) {
    return header.answerChallenge(await header.identityOf(bytes(q.seed)), q.audience, { nonce: q.nonce }, q.now);
  },
  async address(q) {
    const a = header.parseAddress(q.address);
    return { vault: a.vault, boot: out(a.boot), didHash: out(a.didHash) };
  },
  async argon2(q) { return { kek: out(await argon2id(header.passwordBytes(q.password), { ...q.kdf, salt: bytes(q.salt) })) }; },
  async base64(q) { return { bytes: out(fromBase64(q.text)), again: base64(fromBase64(q.text)) }; },
  async json(q) { return { value: parseJSON(q.text) }; },
  // A client of a server that the test plays, with the keys of epochs 1 and on.
  async connect(q) {
    client = new VaultClient(q.server);
    const keys = [];
    for (const [i, vk] of q.vks.entries()) keys.push(await header.deriveEpoch(bytes(vk), q.vault, i + 1));
    await client.login({ identity: await header.identityOf(bytes(q.seed)), keys });
    return {};
  },
  async download(q) {
    const progress = [];
    const r = await client.download(q.row, (done, all) => progress.push([done, all]));
    return { name: r.name, type: r.blob.type, content: out(new Uint8Array(await r.blob.arrayBuffer())), progress };
  },
  async upload(q) { return client.upload(q.parent, Object.assign(new Blob([bytes(q.plain)]), { name: q.name })); },
  async parents() { return { ids: (await client.parents()).map(p => p.id) }; },
  async logout() { return (await client.logout()) ?? {}; },
  async fileName(q) { return { name: fileName(q.name) }; },
};

for await (const line of createInterface({ input: process.stdin })) {
  const q = JSON.parse(line);
  let answer;
  try {
    answer = await ops[q.op](q);
  } catch (err) {
    answer = { error: err.code || err.name, text: err.stack, retryAfter: err.retryAfter ?? null };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
