// Argon2id by the WebAssembly of hash-wasm, which is part of this directory.
import './hash-wasm/argon2.umd.min.js';

/** KEK of CRYPTO.md section 2: 32 bytes. It takes kdf.m KiB of memory. */
export function argon2id(password, { m, t, p, salt }) {
  return globalThis.hashwasm.argon2id({ password, salt, parallelism: p, iterations: t, memorySize: m, hashLength: 32, outputType: 'binary' });
}
