// A batch of the replica log: node batch.mjs
import { webcrypto as wc, createHash } from 'node:crypto';
const S=wc.subtle,enc=new TextEncoder();
const seq=(a,n)=>Uint8Array.from({length:n},(_,i)=>(a+i)&255),hex=b=>Buffer.from(b).toString('hex');
const cat=(...a)=>Uint8Array.from(Buffer.concat(a.map(x=>Buffer.from(x)))),sha256=b=>createHash('sha256').update(b).digest();
const u32=n=>{const b=Buffer.alloc(4);b.writeUInt32BE(n);return b},u64=n=>{const b=Buffer.alloc(8);b.writeBigUInt64BE(BigInt(n));return b};
async function hk(ikm,info,L){const k=await S.importKey('raw',ikm,'HKDF',false,['deriveBits']);return new Uint8Array(await S.deriveBits({name:'HKDF',hash:'SHA-256',salt:new Uint8Array(0),info},k,L*8));}
const vault=seq(0x10,16),dev=seq(0x30,16),VK=seq(0x60,32);
const lk=await hk(VK,cat(enc.encode('vaultdrive/v1/log-key\0'),vault,u32(3)),32);
const body=enc.encode('{"v":1,"hlc":"019b76e0e0000000","seen":{},"ops":[]}');
const pre=cat(enc.encode('VDRB'),[1,0,0,0],vault,dev,u64(1),u32(3),u32(body.length+16),new Uint8Array(32));
const k=await S.importKey('raw',lk,'AES-GCM',false,['encrypt']);
const ct=new Uint8Array(await S.encrypt({name:'AES-GCM',iv:seq(0xf0,12),additionalData:pre},k,body));
const signed=cat(pre,seq(0xf0,12),ct),h=sha256(signed);
const der=cat(Buffer.from('302e020100300506032b657004220420','hex'),seq(1,32));
const sk=await S.importKey('pkcs8',der,{name:'Ed25519'},false,['sign']);
const sig=new Uint8Array(await S.sign('Ed25519',sk,cat(enc.encode('vaultdrive/v1/replica-batch\0'),h)));
console.log('prelen',pre.length,'batch',signed.length+64,'hash',hex(h),'sig',hex(sig));
console.log('full sha256',hex(sha256(cat(signed,sig))));
