package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sha2 compresses a block of each of two messages by the SHA extensions; one alone
// would wait for the latency of its rounds. A lane's state is 32 bytes: words F, E,
// B, A, H, G, D, C, as the instructions want them.
//
//	1-2, 3-4  the two states    5-8, 9-12  the two schedules    0, 13  of a round
func sha2() {
	TEXT("sha2", NOSPLIT, "func(lanes *byte) uint32")
	Pragma("noescape")
	Doc("sha2 compresses blocks of two lanes by the SHA extensions.")
	lanes, k := reg.RSI, reg.RDI
	Load(Param("lanes"), lanes)
	LEAQ(kTab, k)
	VMOVDQU(swap, x(14))
	for s := range 2 {
		VMOVDQU(m(lanes, shaH+32*s), x(1+2*s))
		VMOVDQU(m(lanes, shaH+32*s+16), x(2+2*s))
	}
	Label("block")
	for s, at := range []reg.Register{reg.R8, reg.R9} {
		MOVQ(m(lanes, shaPtr+8*s), at)
		for q := range 4 {
			VMOVDQU(m(at, 16*q), x(5+4*s+q))
			VPSHUFB(x(14), x(5+4*s+q), x(5+4*s+q))
		}
	}
	for i := range 16 { // four rounds
		for s := range 2 {
			w := func(n int) reg.VecPhysical { return x(5 + 4*s + n%4) }
			abef, cdgh := x(1+2*s), x(2+2*s)
			VPADDD(m(k, 16*i), w(i), x(0))
			SHA256RNDS2(reg.X0, abef, cdgh)
			VPSHUFD(U8(0x0e), x(0), x(0))
			SHA256RNDS2(reg.X0, cdgh, abef)
			if i < 12 { // the words of four groups later
				VPALIGNR(U8(4), w(i+2), w(i+3), x(13))
				SHA256MSG1(w(i+1), w(i))
				VPADDD(x(13), w(i), w(i))
				SHA256MSG2(w(i+3), w(i))
			}
		}
	}
	for s := range 2 {
		for h := range 2 {
			VPADDD(m(lanes, shaH+32*s+16*h), x(1+2*s+h), x(1+2*s+h))
			VMOVDQU(x(1+2*s+h), m(lanes, shaH+32*s+16*h))
		}
	}
	count(lanes, 2, shaPtr, shaStep, shaLeft)
	JEQ(LabelRef("block"))
	wipe(false)
	Store(reg.EAX, ReturnIndex(0))
	RET()
}

// count is advance without vectors.
func count(lanes reg.Register, n, ptr, step, left int) {
	XORL(reg.EAX, reg.EAX)
	for i := n - 1; i >= 0; i-- {
		MOVQ(m(lanes, step+8*i), reg.RDX)
		ADDQ(reg.RDX, m(lanes, ptr+8*i))
		MOVL(m(lanes, left+4*i), reg.EDX)
		DECL(reg.EDX)
		MOVL(reg.EDX, m(lanes, left+4*i))
		CMPL(reg.EDX, Imm(1)) // carry: nothing left
		ADCL(reg.EAX, reg.EAX)
	}
	TESTL(reg.EAX, reg.EAX)
}

// cbc8 encrypts a block of each of eight chains: what cbc16 is for single blocks, by
// AES-NI.
func cbc8() {
	TEXT("cbc8", NOSPLIT, "func(lanes *byte, rounds int) uint32")
	Pragma("noescape")
	Doc("cbc8 encrypts blocks of eight chains by AES-NI.")
	lanes, rounds, last := reg.RSI, reg.RDI, reg.RBX
	Load(Param("lanes"), lanes)
	Load(Param("rounds"), rounds)
	MOVQ(rounds, last)
	SHLQ(Imm(8), last)
	ADDQ(lanes, last)
	for i := range cbcNarrow {
		VMOVDQU(m(lanes, cbcChain+16*i), x(i))
	}
	enc := func(r int) {
		for i := range cbcNarrow {
			VAESENC(m(lanes, cbcRK+cbcRow*r+16*i), x(i), x(i))
		}
	}
	Label("block")
	for i := range cbcNarrow {
		MOVQ(m(lanes, cbcPtr+8*i), reg.R8)
		VPXOR(m(reg.R8, 0), x(i), x(i))
		VPXOR(m(lanes, cbcRK+16*i), x(i), x(i))
	}
	for r := 1; r < 10; r++ {
		enc(r)
	}
	for r := 10; r < 14; r += 2 {
		CMPQ(rounds, Imm(uint64(r)))
		JEQ(LabelRef("last"))
		enc(r)
		enc(r + 1)
	}
	Label("last")
	for i := range cbcNarrow {
		VAESENCLAST(m(last, cbcRK+16*i), x(i), x(i))
		MOVQ(m(lanes, cbcPtr+8*i), reg.R8)
		VMOVDQU(x(i), m(reg.R8, 0))
	}
	count(lanes, cbcNarrow, cbcPtr, cbcStep, cbcLeft)
	JEQ(LabelRef("block"))
	for i := range cbcNarrow {
		VMOVDQU(x(i), m(lanes, cbcChain+16*i))
	}
	wipe(false)
	Store(reg.EAX, ReturnIndex(0))
	RET()
}

// decrypt128 decrypts packets, eight blocks at a time, then one at a time. The
// chain is read from memory before anything is written over it.
//
//	0-7  blocks    8-14  ciphertext, one block later    15  ciphertext before
func decrypt128() {
	TEXT("decrypt128", NOSPLIT, "func(jobs *byte, n int)")
	Pragma("noescape")
	Doc("decrypt128 decrypts the packets that are not bad by AES-NI.")
	job, n, key, last := reg.RSI, reg.RDX, reg.R8, reg.RBX
	text, rem, rounds := reg.R9, reg.R10, reg.R11
	Load(Param("jobs"), job)
	Load(Param("n"), n)
	Label("job")
	MOVL(m(job, jobLen), rem.As32())
	MOVQ(m(job, jobText), text)
	MOVQ(m(job, jobKey), key)
	CMPQ(m(job, jobBad), Imm(0))
	JNE(LabelRef("next"))
	MOVL(m(key, ctxRounds), rounds.As32())
	MOVQ(rounds, last)
	SHLQ(Imm(4), last)
	ADDQ(key, last)
	VMOVDQU(m(text, -16), x(15))
	group := func(v int) {
		pre := fmt.Sprintf("g%d", v)
		VMOVDQU(m(key, ctxDec), x(14))
		for i := range v {
			VPXOR(m(text, 16*i), x(14), x(i))
		}
		dec := func(r int) {
			VMOVDQU(m(key, ctxDec+16*r), x(14))
			for i := range v {
				VAESDEC(x(14), x(i), x(i))
			}
		}
		for r := 1; r < 10; r++ {
			dec(r)
		}
		for r := 10; r < 14; r += 2 {
			CMPQ(rounds, Imm(uint64(r)))
			JEQ(LabelRef(pre + "last"))
			dec(r)
			dec(r + 1)
		}
		Label(pre + "last")
		VMOVDQU(m(last, ctxDec), x(14))
		for i := range v {
			VAESDECLAST(x(14), x(i), x(i))
			if i > 0 {
				VPXOR(m(text, 16*(i-1)), x(i), x(i))
			}
		}
		VPXOR(x(15), x(0), x(0))
		VMOVDQU(m(text, 16*(v-1)), x(15))
		for i := range v {
			VMOVDQU(x(i), m(text, 16*i))
		}
		ADDQ(U32(16*v), text)
		SUBQ(U32(16*v), rem)
	}
	Label("eight")
	CMPQ(rem, U32(128))
	JB(LabelRef("one"))
	group(8)
	JMP(LabelRef("eight"))
	Label("one")
	CMPQ(rem, U32(16))
	JB(LabelRef("next"))
	group(1)
	JMP(LabelRef("one"))
	Label("next")
	ADDQ(Imm(jobSize), job)
	DECQ(n)
	JNE(LabelRef("job"))
	wipe(false)
	RET()
}
