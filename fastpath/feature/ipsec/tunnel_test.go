package ipsec_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
)

// TestTunnel runs packets of all sizes through every combination in both
// directions, cached and uncached, against an independent peer.
func TestTunnel(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, esn := range []bool{false, true} {
			for _, bits := range []int{128, 256} {
				for _, how := range []string{"cached", "uncached", "two workers"} {
					t.Run(fmt.Sprintf("esn=%v/%d/%s", esn, bits, how), func(t *testing.T) {
						s := newSite(t, func(o *fastpath.Options) {
							switch how {
							case "uncached":
								o.Flows4, o.Flows6 = -1, -1
							case "two workers":
								o.Workers = 2
							}
						})
						tunnelBothWays(t, s, in6, func(a *ipsec.SA) {
							a.ESN = esn
							a.Key = key(int(a.Direction)+77, bits/8+4)
							if out6 {
								over6(a)
							}
						})
					})
				}
			}
		}
	})
}

func tunnelBothWays(t *testing.T, s *site, in6 bool, edit func(*ipsec.SA)) {
	out, in := s.tunnel(in6, edit)
	r := rand.New(rand.NewPCG(1, 2))
	var sent, back [][]byte
	var octets int
	for i := range 200 {
		p := outgoing(in6, 48+r.IntN(1240))
		if i < 8 {
			p.Len = 48 + i
		}
		p.TTL, p.SPort, p.DF = byte(2+i), uint16(i%5), i%2 == 0
		sent = append(sent, p.IP())
		octets += len(sent[i])
		q := incoming(in6, p.Len)
		q.TTL, q.SPort = p.TTL, p.SPort
		back = append(back, q.IP())
	}
	for k := 0; k < len(sent); k += 50 {
		got := s.fromHost(sent[k : k+50]...)
		if len(got) != 50 {
			t.Fatalf("%d packets left, want 50", len(got))
		}
		for i, g := range got {
			o := out.must(t, g)
			if !bytes.Equal(o.inner, hop(sent[k+i])) || o.seq != uint64(k+i+1) {
				t.Fatalf("packet %d (number %d) is\n%x, want\n%x", k+i, o.seq, o.inner, hop(sent[k+i]))
			}
			if df := in6 || i%2 == 0; !out.sa.Local.Is6() && o.df != df {
				t.Fatalf("packet %d: DF %v outside, %v inside", i, o.df, df)
			}
		}
	}
	s.Moved(fmt.Sprintf("lan rx 200, wan tx 200, sa out packets 200, sa out bytes %d, policy p-out packets 200, policy p-out bytes %d", octets, octets))
	for k := 0; k < len(back); k += 50 {
		var outer, want [][]byte
		for _, b := range back[k : k+50] {
			in.padding, in.tfc = r.IntN(3)*4, r.IntN(2)*r.IntN(60)
			outer = append(outer, in.send(b))
			want = append(want, hop(b))
		}
		s.delivered(s.fromPeer(outer...), want...)
	}
	s.Moved("wan rx 200, lan tx 200, sa in packets 200, policy p-in packets 200")
	if st := s.sa("in"); st.Seq != 200 || st.Bitmap != ^uint64(0) {
		t.Errorf("window: top %d, bitmap %x", st.Seq, st.Bitmap)
	}
	if st := s.sa("out"); st.Seq != 200 || st.UsedAt == 0 || st.Bytes != uint64(octets) {
		t.Errorf("outbound SA: %+v", st)
	}
}
