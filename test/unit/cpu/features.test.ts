/**
 * A model that advertises what nothing implements fails here: every feature's instructions and registers, as an assembler writes
 * them (binutils 2.40), execute on the models that have it and are UNDEFINED on the others; features of the MMU change a translation.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FEATURES, type Feature } from '../../../emulator/cpu/features.ts';
import { ABSENT, FEATURE_FIELDS, IMPLEMENTED_BY, MODELS } from '../../../emulator/cpu/models.ts';
import { READ, WRITE } from '../../../emulator/cpu/ports.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { VP } from '../../../emulator/cpu/vp-state.ts';
import { bench, DATA } from './engine-harness.ts';
import { fixture } from './fixture.ts';

const INSTRUCTIONS: Readonly<Partial<Record<Feature, string>>> = {
  CRC32: `
    1ac24020 crc32b w0,w1,w2
    1ac24420 crc32h w0,w1,w2
    1ac24820 crc32w w0,w1,w2
    9ac24c20 crc32x w0,w1,x2
    1ac25020 crc32cb w0,w1,w2
    1ac25420 crc32ch w0,w1,w2
    1ac25820 crc32cw w0,w1,w2
    9ac25c20 crc32cx w0,w1,x2
  `,
  LSE: `
    88a07c41 cas w0,w1,[x2]
    08e07c41 casab w0,w1,[x2]
    48a0fc41 caslh w0,w1,[x2]
    c8e0fc41 casal x0,x1,[x2]
    08207c44 casp w0,w1,w4,w5,[x2]
    4860fc44 caspal x0,x1,x4,x5,[x2]
    f8208041 swp x0,x1,[x2]
    38e08041 swpalb w0,w1,[x2]
    f8200041 ldadd x0,x1,[x2]
    78201041 ldclrh w0,w1,[x2]
    f8a02041 ldeora x0,x1,[x2]
    b8603041 ldsetl w0,w1,[x2]
    38204041 ldsmaxb w0,w1,[x2]
    f8205041 ldsmin x0,x1,[x2]
    b8e06041 ldumaxal w0,w1,[x2]
    f8207041 ldumin x0,x1,[x2]
    f820005f stadd x0,[x2]
  `,
  RDM: `
    2e428420 sqrdmlah v0.4h,v1.4h,v2.4h
    6e828c20 sqrdmlsh v0.4s,v1.4s,v2.4s
    7e828420 sqrdmlah s0,s1,s2
    6f72d020 sqrdmlah v0.8h,v1.8h,v2.h[3]
    7f52f020 sqrdmlsh h0,h1,v2.h[1]
  `,
  LOR: `
    c8df7c40 ldlar x0,[x2]
    08df7c40 ldlarb w0,[x2]
    889f7c40 stllr w0,[x2]
    489f7c40 stllrh w0,[x2]
    d538a4e0 mrs x0,lorid_el1
    d518a440 msr lorn_el1,x0
  `,
  PAN: `
    d500419f msr pan,#1
    d5384260 mrs x0,pan
    d5184260 msr pan,x0
  `,
  PAN2: `
    d5087902 at s1e1rp,x2
    d5087922 at s1e1wp,x2
  `,
  UAO: `
    d500407f msr uao,#0
    d5384280 mrs x0,uao
    d5184280 msr uao,x0
  `,
  DPB: `
    d50b7c22 dc cvap,x2
  `,
  DPB2: `
    d50b7d22 dc cvadp,x2
  `,
  RAS: `
    d5385300 mrs x0,erridr_el1
    d5185320 msr errselr_el1,x0
    d538c120 mrs x0,disr_el1
    d5385440 mrs x0,erxstatus_el1
    d5185420 msr erxctlr_el1,x0
    d5385400 mrs x0,erxfr_el1
    d5385460 mrs x0,erxaddr_el1
    d5385500 mrs x0,erxmisc0_el1
    d5385520 mrs x0,erxmisc1_el1
  `,
  AES: `
    4e284820 aese v0.16b,v1.16b
    4e285820 aesd v0.16b,v1.16b
    4e286820 aesmc v0.16b,v1.16b
    4e287820 aesimc v0.16b,v1.16b
  `,
  PMULL: `
    0ee2e020 pmull v0.1q,v1.1d,v2.1d
    4ee2e020 pmull2 v0.1q,v1.2d,v2.2d
  `,
  SHA1: `
    5e020020 sha1c q0,s1,v2.4s
    5e021020 sha1p q0,s1,v2.4s
    5e022020 sha1m q0,s1,v2.4s
    5e280820 sha1h s0,s1
    5e023020 sha1su0 v0.4s,v1.4s,v2.4s
    5e281820 sha1su1 v0.4s,v1.4s
  `,
  SHA256: `
    5e024020 sha256h q0,q1,v2.4s
    5e025020 sha256h2 q0,q1,v2.4s
    5e282820 sha256su0 v0.4s,v1.4s
    5e026020 sha256su1 v0.4s,v1.4s,v2.4s
  `,
  SHA512: `
    ce628020 sha512h q0,q1,v2.2d
    ce628420 sha512h2 q0,q1,v2.2d
    cec08020 sha512su0 v0.2d,v1.2d
    ce628820 sha512su1 v0.2d,v1.2d,v2.2d
  `,
  SHA3: `
    ce020c20 eor3 v0.16b,v1.16b,v2.16b,v3.16b
    ce220c20 bcax v0.16b,v1.16b,v2.16b,v3.16b
    ce628c20 rax1 v0.2d,v1.2d,v2.2d
    ce821420 xar v0.2d,v1.2d,v2.2d,#5
  `,
  SM3: `
    ce420c20 sm3ss1 v0.4s,v1.4s,v2.4s,v3.4s
    ce429020 sm3tt1a v0.4s,v1.4s,v2.s[1]
    ce429420 sm3tt1b v0.4s,v1.4s,v2.s[1]
    ce429820 sm3tt2a v0.4s,v1.4s,v2.s[1]
    ce429c20 sm3tt2b v0.4s,v1.4s,v2.s[1]
    ce62c020 sm3partw1 v0.4s,v1.4s,v2.4s
    ce62c420 sm3partw2 v0.4s,v1.4s,v2.4s
  `,
  SM4: `
    cec08420 sm4e v0.4s,v1.4s
    ce62c820 sm4ekey v0.4s,v1.4s,v2.4s
  `,
  FP16: `
    1ee22820 fadd h0,h1,h2
    1fc20c20 fmadd h0,h1,h2,h3
    1ee12000 fcmp h0,h1
    1ee10400 fccmp h0,h1,#0,eq
    1ee20c20 fcsel h0,h1,h2,eq
    1eee1000 fmov h0,#1.0
    1ee70020 fmov h0,w1
    9ee60020 fmov x0,h1
    1ef80020 fcvtzs w0,h1
    9ee20020 scvtf h0,x1
    1ed8f420 fcvtzs w0,h1,#3
    1ec2f420 scvtf h0,w1,#3
    1ee1c020 fsqrt h0,h1
    1ee64020 frinta h0,h1
    4e421420 fadd v0.8h,v1.8h,v2.8h
    0f121020 fmla v0.4h,v1.4h,v2.h[1]
    5e421c20 fmulx h0,h1,h2
    4ef9d820 frecpe v0.8h,v1.8h
    4ef8c820 fcmgt v0.8h,v1.8h,#0.0
    4e30f820 fmaxv h0,v1.8h
    5e30d820 faddp h0,v1.2h
    4f03fe00 fmov v0.8h,#1.0
    6e79d820 ucvtf v0.8h,v1.8h
    6f1dfc20 fcvtzu v0.8h,v1.8h,#3
    5e79c820 fcvtas h0,h1
    5ef9f820 frecpx h0,h1
  `,
  DotProd: `
    4e829420 sdot v0.4s,v1.16b,v2.16b
    2e829420 udot v0.2s,v1.8b,v2.8b
    4fa2e020 sdot v0.4s,v1.16b,v2.4b[1]
    6fa2e820 udot v0.4s,v1.16b,v2.4b[3]
  `,
  FHM: `
    4e22ec20 fmlal v0.4s,v1.4h,v2.4h
    6e22cc20 fmlal2 v0.4s,v1.4h,v2.4h
    0ea2ec20 fmlsl v0.2s,v1.2h,v2.2h
    6f92c020 fmlsl2 v0.4s,v1.4h,v2.h[1]
  `,
  FCMA: `
    6e82cc20 fcmla v0.4s,v1.4s,v2.4s,#90
    6ec2f420 fcadd v0.2d,v1.2d,v2.2d,#270
    6f825820 fcmla v0.4s,v1.4s,v2.s[1],#180
  `,
  JSCVT: `
    1e7e0020 fjcvtzs w0,d1
  `,
  FRINTTS: `
    1e684020 frint32z d0,d1
    1e28c020 frint32x s0,s1
    4e61f820 frint64z v0.2d,v1.2d
    6e21f820 frint64x v0.4s,v1.4s
  `,
  BF16: `
    6e42fc20 bfdot v0.4s,v1.8h,v2.8h
    4f62f020 bfdot v0.4s,v1.8h,v2.2h[1]
    6e42ec20 bfmmla v0.4s,v1.8h,v2.8h
    2ec2fc20 bfmlalb v0.4s,v1.8h,v2.8h
    4fd2f020 bfmlalt v0.4s,v1.8h,v2.h[1]
    1e634020 bfcvt h0,s1
    0ea16820 bfcvtn v0.4h,v1.4s
    4ea16820 bfcvtn2 v0.8h,v1.4s
  `,
  I8MM: `
    4e82a420 smmla v0.4s,v1.16b,v2.16b
    6e82a420 ummla v0.4s,v1.16b,v2.16b
    4e82ac20 usmmla v0.4s,v1.16b,v2.16b
    4e829c20 usdot v0.4s,v1.16b,v2.16b
    4fa2f020 usdot v0.4s,v1.16b,v2.4b[1]
    4f22f020 sudot v0.4s,v1.16b,v2.4b[1]
  `,
  LRCPC: `
    f8bfc040 ldapr x0,[x2]
    38bfc040 ldaprb w0,[x2]
    78bfc040 ldaprh w0,[x2]
    b8bfc040 ldapr w0,[x2]
  `,
  LRCPC2: `
    d9408040 ldapur x0,[x2,#8]
    19400040 ldapurb w0,[x2]
    19800040 ldapursb x0,[x2]
    59c02040 ldapursh w0,[x2,#2]
    99804040 ldapursw x0,[x2,#4]
    d9008040 stlur x0,[x2,#8]
    19000040 stlurb w0,[x2]
    59000040 stlurh w0,[x2]
  `,
  FlagM: `
    d500401f cfinv
    ba018405 rmif x0,#3,#5
    3a00080d setf8 w0
    3a00480d setf16 w0
  `,
  FlagM2: `
    d500403f xaflag
    d500405f axflag
  `,
  SB: `
    d50330ff sb
  `,
  SSBS: `
    d503413f msr ssbs,#1
    d53b42c0 mrs x0,ssbs
    d51b42c0 msr ssbs,x0
  `,
  SPECRES: `
    d50b7380 cfp rctx,x0
    d50b73a0 dvp rctx,x0
    d50b73e0 cpp rctx,x0
  `,
  DIT: `
    d503415f msr dit,#1
    d53b42a0 mrs x0,dit
    d51b42a0 msr dit,x0
  `,
  WFxT: `
    d5031003 wfet x3
    d5031023 wfit x3
  `,
  RNG: `
    d53b2400 mrs x0,rndr
    d53b2420 mrs x0,rndrrs
  `,
  PAuth: `
    dac10020 pacia x0,x1
    dac10c20 pacdb x0,x1
    dac123e0 paciza x0
    dac147e0 xpacd x0
    dac143e0 xpaci x0
    9ac23020 pacga x0,x1,x2
    d5382100 mrs x0,apiakeylo_el1
    d5182320 msr apgakeyhi_el1,x0
  `,
  TLBIOS: `
    d508811f tlbi vmalle1os
    d5088120 tlbi vae1os,x0
    d5088140 tlbi aside1os,x0
    d5088160 tlbi vaae1os,x0
    d50881a0 tlbi vale1os,x0
    d50881e0 tlbi vaale1os,x0
  `,
  TLBIRANGE: `
    d5088620 tlbi rvae1,x0
    d5088660 tlbi rvaae1,x0
    d50886a0 tlbi rvale1,x0
    d50886e0 tlbi rvaale1,x0
    d5088220 tlbi rvae1is,x0
    d50882e0 tlbi rvaale1is,x0
    d5088520 tlbi rvae1os,x0
    d50885e0 tlbi rvaale1os,x0
  `,
  ECV: `
    d53be0c0 mrs x0,cntvctss_el0
    d53be0a0 mrs x0,cntpctss_el0
  `,
  PMUv3: `
    d53b9c00 mrs x0,pmcr_el0
    d51b9c20 msr pmcntenset_el0,x0
    d53b9d00 mrs x0,pmccntr_el0
    d53be800 mrs x0,pmevcntr0_el0
    d51beca0 msr pmevtyper5_el0,x0
    d53b9e00 mrs x0,pmuserenr_el0
    d51b9c80 msr pmswinc_el0,x0
    d53b9cc0 mrs x0,pmceid0_el0
  `,
  PMUv3p4: `
    d5389ec0 mrs x0,pmmir_el1
  `,
  CSV2_2: `
    d538d0e0 mrs x0,scxtnum_el1
    d51bd0e0 msr scxtnum_el0,x0
  `,
};

/** A translation with and without the feature: a page of tables at 0x10000 (4 KiB granule unless `tcr` says else). */
interface Walk {
  readonly tcr: bigint;
  readonly va?: bigint;
  readonly el?: 0 | 1;
  readonly write?: boolean;
  readonly pan?: boolean;
  readonly sctlr?: bigint;
  /** The descriptors on the way, first to last; `NEXT` in one is where the next table is. */
  readonly descriptors: readonly bigint[];
}
const [TABLE, NEXT_SIZE] = [3n, 0x10000n];
const [AF, USER, DBM, GP, UXN] = [1n << 10n, 1n << 6n, 1n << 51n, 1n << 50n, 1n << 54n];
const BLOCK = AF | 1n;
const IPS48 = 5n << 32n;
const T0SZ25 = 25n | (1n << 23n) | IPS48;
const K64 = 1n << 14n;

const WALKS: Readonly<Partial<Record<Feature, Walk>>> = {
  // Tables say read-only, TCR_EL1.HPD0 that they must not.
  HPDS: { tcr: T0SZ25 | (1n << 41n), write: true, descriptors: [TABLE | (1n << 62n), BLOCK] },
  HAFDBS: { tcr: T0SZ25 | (1n << 39n) | (1n << 40n), write: true, descriptors: [TABLE, 1n | DBM | (1n << 7n)] },
  E0PD: { tcr: T0SZ25 | (1n << 55n), el: 0, descriptors: [TABLE, BLOCK | USER] },
  // 52 bits of virtual address, 64 KiB granule.
  LVA: { tcr: 12n | (1n << 23n) | IPS48 | K64, va: 1n << 50n, descriptors: [TABLE, BLOCK] },
  // Bits 51:48 of the output address in bits 15:12 of the descriptor.
  LPA: { tcr: 22n | (1n << 23n) | (6n << 32n) | K64, descriptors: [BLOCK | (1n << 12n)] },
  // Four levels become five; bits 51:50 of the output address in bits 9:8.
  LPA2: { tcr: 25n | (1n << 23n) | (6n << 32n) | (1n << 59n), descriptors: [TABLE, BLOCK | (1n << 8n)] },
  PAN3: { tcr: T0SZ25, pan: true, sctlr: 1n << 57n, descriptors: [TABLE, BLOCK] },
  BTI: { tcr: T0SZ25, descriptors: [TABLE, BLOCK | GP | UXN] },
};

function translate(
  features: readonly Feature[],
  { tcr, va = 0n, el = 1, write = false, pan = false, sctlr = 0n, descriptors }: Walk,
) {
  const f = fixture({ features });
  const first = 0x10000;
  descriptors.forEach((d, i) => {
    const table = first + i * Number(NEXT_SIZE);
    const isTable = i < descriptors.length - 1;
    // Every entry of a table is the same: whichever level the walk begins at, it finds it.
    for (let k = 0; k < 8192; k++) f.ram.view.setBigUint64(table + 8 * k, isTable ? d | BigInt(table + 0x10000) : d, true);
  });
  f.set('MAIR_EL1', 0xffn);
  f.set('TCR_EL1', tcr);
  f.set('TTBR0_EL1', BigInt(first));
  f.set('SCTLR_EL1', 1n | sctlr);
  const ok = f.mmu.translate(f.vp, Number(va >> 32n), Number(va & 0xffffffffn), write ? WRITE : READ, el, pan);
  const { pa, fsc, guarded } = f.mmu.out;
  return ok ? { pa, guarded } : { fsc };
}

/** Nothing to see: hints, what is never speculated, what is always ignored; and what other tests show. */
const ELSEWHERE: Readonly<Partial<Record<Feature, string>>> = {
  LSE2: 'misaligned.test.ts',
  HPDS2: 'bits that mean nothing here',
  TTCNP: 'translations are never shared between VPs',
  TTL: 'a hint that is ignored',
  CSV2: 'nothing is speculated',
  CSV2_3: 'nothing is speculated',
  CSV3: 'nothing is speculated',
  DGH: 'a hint',
  PMUv3p1: 'pmu.test.ts',
  PMUv3p5: 'pmu.test.ts',
};

test('every feature that a model can have is seen by a test, and told by a field', () => {
  const lost = FEATURES.filter((f) => !ABSENT.includes(f) && !INSTRUCTIONS[f] && !WALKS[f] && !ELSEWHERE[f]);
  assert.deepEqual(lost, []);
  // What no instruction row names says where it is implemented.
  for (const f of Object.keys({ ...WALKS, ...ELSEWHERE }) as Feature[]) assert.ok(IMPLEMENTED_BY[f], f);
  for (const [name, model] of Object.entries(MODELS))
    assert.deepEqual(
      model.features.filter((f) => !FEATURE_FIELDS[f] || ABSENT.includes(f)),
      [],
      name,
    );
});

for (const [name, model] of Object.entries(MODELS))
  test(`${name}: instructions of its features execute, those of others are UNDEFINED`, () => {
    const b = bench({ model: name });
    const [vp] = b.cpu.vps;
    for (const [feature, text] of Object.entries(INSTRUCTIONS) as [Feature, string][])
      for (const line of text.trim().split('\n')) {
        const [, hex, what] = /^ *([0-9a-f]{8}) (.*)$/.exec(line) ?? [];
        vp.bytes.fill(0, 0, VP.PC);
        vp.setX(2, BigInt(DATA));
        vp.setU32(VP.RUN_STATE, 0);
        vp.setU64(cellOf('ESR_EL1'), ~0n);
        b.program([Number.parseInt(hex, 16)]);
        b.cpu.run(0, 1);
        const isUndefined = vp.u64(cellOf('ESR_EL1')) >> 26n === 0n;
        assert.equal(isUndefined, !model.features.includes(feature), `${feature}: ${what}`);
      }
  });

test('features of the MMU change what they say', () => {
  const all = MODELS.max.features;
  for (const [feature, walk] of Object.entries(WALKS) as [Feature, Walk][]) {
    const without = all.filter((f) => f !== feature && !(feature === 'LVA' && f === 'LPA2'));
    assert.notDeepEqual(translate(all, walk), translate(without, walk), feature);
  }
});
