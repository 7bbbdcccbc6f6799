// Argon2id beside the page, so that it stays alive meanwhile. The page ends the
// worker when it has its answer, and the memory goes with it.
import { argon2id } from './argon2.js';

onmessage = async ({ data: { password, kdf } }) => {
  try {
    postMessage({ kek: await argon2id(password, kdf) });
  } catch (err) {
    postMessage({ error: String(err?.message ?? err) });
  } finally {
    password.fill(0);
  }
};
