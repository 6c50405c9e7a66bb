package action

import (
	"testing"

	"vrouter/fastpath/drop"
)

func TestCompile(t *testing.T) {
	p := func(ops ...Op) *Program {
		var p Program
		for _, o := range ops {
			p.Append(o)
		}
		return &p
	}
	fail := Compiled{Kind: KindDrop}
	for _, c := range []struct {
		p    *Program
		text string
		want Compiled
	}{
		{p(Make(DecTTL, 0), Make(Output, 5)), "dec-ttl, output(5)", Compiled{Arg: 5}},
		{p(Make(Output, 5)), "output(5)", Compiled{Arg: 5, NoTTL: true}},
		{p(Make(Count, 7), Make(DecTTL, 0), Make(Output, MaxArg)), "count(7), dec-ttl, output(16777215)", Compiled{Arg: MaxArg, Count: [2]uint32{7}}},
		{p(Make(Count, 7), Make(Count, 8), Make(Encrypt, 3)), "count(7), count(8), encrypt(3)", Compiled{Kind: KindEncrypt, NoTTL: true, Arg: 3, Count: [2]uint32{7, 8}}},
		{p(Make(Decrypt, 3)), "decrypt(3)", Compiled{Kind: KindDecrypt, NoTTL: true, Arg: 3}},
		{p(Make(Local, 0)), "local", Compiled{Kind: KindLocal, NoTTL: true}},
		{p(Make(Reject, 2)), "reject(2)", Compiled{Kind: KindReject, NoTTL: true, Arg: 2}},
		{p(Make(Drop, uint32(drop.NoRoute))), "drop(no-route)", Compiled{Kind: KindDrop, NoTTL: true, Arg: uint32(drop.NoRoute)}},
		// What is wrong drops, without a reason that would look like a decision.
		{p(), "", fail},
		{p(Make(DecTTL, 0)), "dec-ttl", fail},
		{p(Make(Count, 1), Make(Count, 2), Make(Count, 3), Make(Output, 1)), "count(1), count(2), count(3), output(1)", fail},
		{p(Make(Output, 1), Make(Output, 2)), "drop(none)", Compiled{Kind: KindDrop, NoTTL: true}},
		{p(Make(DecTTL, 0), Make(DecTTL, 0), Make(DecTTL, 0), Make(DecTTL, 0), Make(DecTTL, 0), Make(DecTTL, 0), Make(DecTTL, 0), Make(Output, 1)), "drop(none)", Compiled{Kind: KindDrop, NoTTL: true}},
	} {
		if got := c.p.String(); got != c.text {
			t.Errorf("program %q, want %q", got, c.text)
		}
		if got := Compile(c.p); got != c.want {
			t.Errorf("%s compiles to %+v, want %+v", c.text, got, c.want)
		}
		adj, plain := c.p.Plain()
		if want := c.text == "dec-ttl, output(5)"; plain != want || plain && adj != 5 {
			t.Errorf("%s: plain %v through %d", c.text, plain, adj)
		}
	}
}
