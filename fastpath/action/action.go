// Package action says what is done with the packets of a flow. A Program is
// the description that the stages of the walk write, op by op: what tests
// compare, traces print and, later, a device takes over. Compile turns it into
// the few words of a flow entry; those are what the packet loop executes.
package action

import (
	"fmt"
	"strings"

	"vrouter/fastpath/drop"
)

// Op is one step: a code in the upper 8 bits, its argument in the lower 24.
type Op uint32

// Code is what an Op does.
type Code uint8

// The codes. Those from Output on end a program.
const (
	End        Code = iota // nothing more: the program is empty or over
	DecTTL                 // one less TTL or hop limit; checksum follows (RFC 1624)
	Count                  // packets and octets into counter arg
	Clamp                  // of a TCP SYN: announce segments of at most arg; such packets make no flow
	Output                 // out through adjacency arg: Ethernet header, MTU, port
	Drop                   // die under drop.Reason arg
	Local                  // deliver to the vRouter itself
	Reject                 // drop, and tell the sender by ICMP: arg is the pipeline.Reject
	Encrypt                // into ESP by the outbound SA arg
	Decrypt                // out of ESP by the inbound SA arg
	Reassemble             // a fragment to the vRouter itself
	Unwrap                 // UDP to where ESP in UDP comes
	codes
)

var names = [codes]string{"end", "dec-ttl", "count", "clamp", "output", "drop", "local", "reject", "encrypt", "decrypt", "reassemble", "unwrap"}

// MaxArg is the largest argument of an Op.
const MaxArg = 1<<24 - 1

// Make builds an op.
func Make(c Code, arg uint32) Op { return Op(c)<<24 | Op(arg&MaxArg) }

// Code is what the op does.
func (o Op) Code() Code { return Code(o >> 24) }

// Arg is the op's argument.
func (o Op) Arg() uint32 { return uint32(o) & MaxArg }

// Ends tells whether the op ends its program.
func (o Op) Ends() bool { return o.Code() >= Output }

// String is the op for people.
func (o Op) String() string {
	c := o.Code()
	switch {
	case c >= codes:
		return fmt.Sprintf("op%d(%d)", c, o.Arg())
	case c == Drop:
		return "drop(" + drop.Reason(o.Arg()).String() + ")"
	case c == DecTTL || c == Local || c == End || c == Reassemble || c == Unwrap:
		return names[c]
	}
	return fmt.Sprintf("%s(%d)", names[c], o.Arg())
}

// MaxOps is how many ops a program holds.
const MaxOps = 7

// Program is what is done with a packet, in order. The zero value is empty.
// 32 bytes, no pointers.
type Program struct {
	Len uint32
	Ops [MaxOps]Op
}

// Append adds an op. Ops after one that ends the program, or beyond MaxOps, are
// a programming error; the program then drops (fail closed).
func (p *Program) Append(o Op) {
	n := p.Len
	if n >= MaxOps || n > 0 && p.Ops[n-1].Ends() {
		*p = Program{Len: 1}
		p.Ops[0] = Make(Drop, uint32(drop.None))
		return
	}
	p.Ops[n] = o
	p.Len = n + 1
}

// Last is the op that ends the program, End when none does yet.
func (p *Program) Last() Op {
	if n := p.Len; n > 0 && n <= MaxOps && p.Ops[n-1].Ends() {
		return p.Ops[n-1]
	}
	return Make(End, 0)
}

// String is the program for people: "dec-ttl, output(5)".
func (p *Program) String() string {
	var s []string
	for _, o := range p.Ops[:min(p.Len, MaxOps)] {
		s = append(s, o.String())
	}
	return strings.Join(s, ", ")
}

// Kind is how the packet loop handles a flow.
type Kind uint8

// The kinds. Forward and Drop are the loop's own; packets of the others are
// listed by kind and given to that kind's Sink once per burst.
const (
	KindForward Kind = iota
	KindDrop
	KindLocal
	KindReject
	KindEncrypt
	KindDecrypt
	KindReassemble
	KindUnwrap
	Kinds // how many
)

// MaxCounts is how many counters a flow can have.
const MaxCounts = 2

// Compiled is a program as a flow entry has it.
type Compiled struct {
	Kind  Kind
	NoTTL bool              // Forward without taking one off the TTL
	Arg   uint32            // Forward: adjacency; Drop: reason; else as the op's
	Count [MaxCounts]uint32 // counters, 0: none
	MSS   uint16            // Clamp's smallest; 0: none
}

// Plain tells whether a program is "dec-ttl, output", as nearly all are, and
// through which adjacency.
func (p *Program) Plain() (adj uint32, ok bool) {
	o := p.Ops[1]
	return o.Arg(), p.Len == 2 && p.Ops[0] == Op(DecTTL)<<24 && o.Code() == Output
}

// Compile turns a program into what a flow entry holds. A program that does
// not end, or counts more than MaxCounts times, drops.
func Compile(p *Program) (c Compiled) {
	c.NoTTL = true
	n := 0
	for _, o := range p.Ops[:min(p.Len, MaxOps)] {
		switch o.Code() {
		case DecTTL:
			c.NoTTL = false
		case Count:
			if n == MaxCounts {
				return Compiled{Kind: KindDrop}
			}
			c.Count[n] = o.Arg()
			n++
		case Clamp:
			if m := uint16(o.Arg()); c.MSS == 0 || m < c.MSS {
				c.MSS = m
			}
		case Output:
			c.Kind, c.Arg = KindForward, o.Arg()
			return c
		case Drop:
			c.Kind, c.Arg = KindDrop, o.Arg()
			return c
		case Local:
			c.Kind, c.Arg = KindLocal, o.Arg()
			return c
		case Reject:
			c.Kind, c.Arg = KindReject, o.Arg()
			return c
		case Encrypt:
			c.Kind, c.Arg = KindEncrypt, o.Arg()
			return c
		case Decrypt:
			c.Kind, c.Arg = KindDecrypt, o.Arg()
			return c
		case Reassemble:
			c.Kind = KindReassemble
			return c
		case Unwrap:
			c.Kind = KindUnwrap
			return c
		}
	}
	return Compiled{Kind: KindDrop}
}
