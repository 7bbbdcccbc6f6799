// The fixed vectors of the formats, made with WebCrypto: node generate.mjs > vectors.json
import { webcrypto as wc, createHash, createPublicKey } from 'node:crypto';
const S = wc.subtle, enc = new TextEncoder();
const seq = (a,n)=>Uint8Array.from({length:n},(_,i)=>(a+i)&255);
const hex = b=>Buffer.from(b).toString('hex'), b64=b=>Buffer.from(b).toString('base64');
const cat=(...a)=>Uint8Array.from(Buffer.concat(a.map(x=>Buffer.from(x))));
const sha256=b=>createHash('sha256').update(b).digest();
const u32=n=>{const b=Buffer.alloc(4);b.writeUInt32BE(n);return b}, u64=n=>{const b=Buffer.alloc(8);b.writeBigUInt64BE(BigInt(n));return b};
const LP=b=>cat(u32(b.length),b);
async function gcm(key,iv,pt,aad){const k=await S.importKey('raw',key,'AES-GCM',false,['encrypt']);const p={name:'AES-GCM',iv};if(aad)p.additionalData=aad;return new Uint8Array(await S.encrypt(p,k,pt));}
async function hkdf256(ikm,info,L){const k=await S.importKey('raw',ikm,'HKDF',false,['deriveBits']);return new Uint8Array(await S.deriveBits({name:'HKDF',hash:'SHA-256',salt:new Uint8Array(0),info},k,L*8));}
async function expand512(prk,info,L){const k=await S.importKey('raw',prk,{name:'HMAC',hash:'SHA-512'},false,['sign']);let t=new Uint8Array(0),o=new Uint8Array(0);for(let i=1;o.length<L;i++){t=new Uint8Array(await S.sign('HMAC',k,cat(t,info,[i])));o=cat(o,t);}return o.slice(0,L);}
const vault=seq(0x10,16), att=seq(0x20,16), blobId=seq(0x50,16), out={};
// v3
{const FK=seq(0,32), EK=seq(0x20,32);
 const c=cat(seq(0xa0,12),await gcm(FK,seq(0xa0,12),enc.encode('hello vaultdrive\n')));
 out.v3_content=b64(c);
 out.v3_name=JSON.stringify({iv:b64(seq(0xb0,12)),ciphertext:b64(await gcm(FK,seq(0xb0,12),enc.encode('recovery-codes.pdf')))});
 out.v3_mime=JSON.stringify({iv:b64(seq(0xc0,12)),ciphertext:b64(await gcm(FK,seq(0xc0,12),enc.encode('application/pdf')))});
 out.v3_wrapped=JSON.stringify({iv:b64(seq(0xd0,12)),ciphertext:b64(await gcm(EK,seq(0xd0,12),FK))});
 out.v3_empty=b64(cat(seq(0xa0,12),await gcm(FK,seq(0xa0,12),new Uint8Array(0))));
}
// v4
const pt=n=>Uint8Array.from({length:n},(_,i)=>(i*7+(i>>8))&255);
async function v4(FK,salt,P){
 const ctx=cat(enc.encode('vaultdrive/v4/content\0'),vault,blobId);
 const info=cat(enc.encode('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0'),salt,ctx);
 const okm=await expand512(FK,info,76), key=okm.slice(0,32), bn=okm.slice(32,44), com=okm.slice(44);
 const parts=[enc.encode('VDBLOB4\n'),salt,com]; let n=Math.floor(P.length/16384)+1;
 for(let k=0;k<n;k++){const nn=Uint8Array.from(bn);const c=u64(k);for(let j=0;j<8;j++)nn[4+j]^=c[j];parts.push(await gcm(key,nn,P.slice(k*16384,(k+1)*16384)));}
 return {blob:cat(...parts),key,bn,com};}
const FK4=seq(0x40,32), salt=seq(0x80,24);
out.v4={};
for(const n of [0,1,16383,16384,16385,40000]){const r=await v4(FK4,salt,pt(n));out.v4[n]={len:r.blob.length,sha256:hex(sha256(r.blob))};if(n===0){out.v4_key=hex(r.key);out.v4_basenonce=hex(r.bn);out.v4_commit=hex(r.com);out.v4_blob0=hex(r.blob)}}
{const mk=await expand512(FK4,cat(enc.encode('vaultdrive/v4/meta\0'),vault,att),32);
 out.v4_metakey=hex(mk);
 out.v4_name=b64(await gcm(mk,seq(0xb0,12),enc.encode('recovery-codes.pdf'),cat(enc.encode('vaultdrive/v4/name\0'),vault,att)));}
// hierarchy
const VK=seq(0x60,32);
for(const l of ['enc-key','log-key','prev-vk','local-wrap','backup-mac']) out['k_'+l]=hex(await hkdf256(VK,cat(enc.encode('vaultdrive/v1/'+l+'\0'),vault,u32(3)),32));
{const o=await hkdf256(VK,cat(enc.encode('vaultdrive/v1/pw-slot\0'),vault,u32(3)),64); out.pw_slot_from_KEK60=hex(o);}
// did:key
const A='123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
function b58(b){let n=BigInt('0x'+hex(b)),s='';while(n>0n){s=A[Number(n%58n)]+s;n/=58n}for(const x of b){if(x)break;s='1'+s}return s}
async function edkey(seed){const der=cat(Buffer.from('302e020100300506032b657004220420','hex'),seed);const k=await S.importKey('pkcs8',der,{name:'Ed25519'},true,['sign']);const j=await S.exportKey('jwk',k);return {k,pk:Buffer.from(j.x,'base64url')};}
{const {pk}=await edkey(new Uint8Array(32));out.did0='did:key:z'+b58(cat([0xed,1],pk));}
{const seed=seq(0x01,32);const {k,pk}=await edkey(seed);const did='did:key:z'+b58(cat([0xed,1],pk));out.did1=did;
 const dev=seq(0x30,16);
 const M=cat(enc.encode('vaultdrive/v1/did-session\0'),LP(enc.encode('https://sync.example')),LP(enc.encode(did)),dev,seq(0xe0,32),u64(1767225600000),u64(1767225660000));
 out.session_msg_sha256=hex(sha256(M));out.session_sig=hex(await S.sign('Ed25519',k,M));
 const wk=cat(seq(0xd0,12),await gcm(seq(0x20,32),seq(0xd0,12),seq(0,32)));
 const nm=cat(seq(0xb0,12),await gcm(seq(0,32),seq(0xb0,12),enc.encode('recovery-codes.pdf')));
 const mi=cat(seq(0xc0,12),await gcm(seq(0,32),seq(0xc0,12),enc.encode('application/pdf')));
 const blob=Buffer.from(out.v3_content,'base64');
 const rec=cat(enc.encode('vaultdrive/v1/record\0'),vault,att,[3],seq(0x70,16),[3],u32(3),u64(1),u64(17),LP(wk),LP(nm),LP(mi),seq(0x50,16),u64(blob.length),sha256(blob),LP(cat(blob.subarray(0,12),blob.subarray(-16))),u64(1767225600000000000n),u32(0o600));
 out.record_digest=hex(sha256(rec));
}
console.log(JSON.stringify(out,null,1));
