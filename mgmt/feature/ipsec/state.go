package ipsec

import (
	"context"
	"math"
	"strconv"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// State adds the counters of SPD entries, and of SAs what RFC 9061 and
// vrouter-sal tell. No key is in it.
func (b *Binding) State(ctx context.Context, want binding.Want, e *data.Edit) error {
	var q fastpath.Query
	if oper.AnyState(want, b.spd) {
		q.Policies = oper.Names(want, b.spd)
	}
	if oper.AnyState(want, b.sad) {
		q.SAs = oper.Names(want, b.sad)
	}
	if oper.AnyState(want, b.groups) {
		q.Groups = oper.Names(want, b.groups)
	}
	if q.Policies == nil && q.SAs == nil && q.Groups == nil {
		return nil
	}
	st, err := b.state.State(ctx, &q)
	if err != nil {
		return err
	}
	w := oper.New(b.schema, want, e)
	w.InConfig("ietf-i2nsf-ikeless:ipsec-ikeless", func() {
		w.InConfig("spd", func() {
			for i := range st.Policies {
				p := &st.Policies[i]
				w.EntryConfig("spd-entry", []string{p.Name}, func() {
					w.In("vrouter-sal:counters", func() {
						w.Uint("packets", p.Packets)
						w.Uint("bytes", p.Bytes)
					})
				})
			}
		})
		w.InConfig("sad", func() {
			for i := range st.SAs {
				s := &st.SAs[i]
				w.EntryConfig("sad-entry", []string{s.Name}, func() { writeSA(w, s) })
			}
		})
	})
	w.InConfig("vrouter-sal:sal", func() {
		for i := range st.Groups {
			g := &st.Groups[i]
			w.EntryConfig("tenant-group", []string{g.Name}, func() {
				w.In("use", func() {
					w.Uint("sas", uint64(g.SAs))
					w.Uint("packets", g.Packets)
					w.Uint("bytes", g.Bytes)
					w.Uint("dropped", g.Dropped)
				})
			})
		}
	})
	return w.Err()
}

func writeSA(w *oper.Writer, s *ipsec.SAState) {
	w.In("ipsec-sa-state", func() {
		w.In("sa-lifetime-current", func() {
			current(w, s.Age, s.Idle, s.Packets, s.Bytes)
		})
		w.In("replay-stats", func() {
			if s.Direction == sal.Outbound {
				w.Uint("seq-number-counter", s.Seq)
				return
			}
			w.In("replay-window", func() {
				w.Uint("w", uint64(s.Window))
				w.Uint("t", s.Seq)
				w.Uint("b", bottom(s.Seq, s.Window))
			})
			w.Uint("packet-dropped", count(s, "esp-replay"))
			w.Uint("failed", count(s, "esp-late"))
		})
	})
	w.In("vrouter-sal:placement", func() {
		if s.Engine != "" {
			w.Text("engine", s.Engine)
			w.Text("mode", s.Mode)
			w.Text("reason", s.Reason)
			w.Bool("as-wanted", s.AsWanted)
		}
	})
	if s.Peer.IsValid() {
		w.In("vrouter-sal:peer", func() {
			w.Text("address", s.Peer.Addr().String())
			w.Uint("port", uint64(s.Peer.Port()))
			if s.MovedAt != 0 {
				w.Time("moved-at", s.MovedAt)
			}
		})
	}
	w.In("vrouter-sal:lifetime", func() {
		w.Bool("ended", s.Ended)
		for _, x := range s.Expired {
			w.Text("expired", x)
		}
	})
	w.In("vrouter-sal:lateness", func() { writeLate(w, s) })
	w.In("vrouter-mtu:mtu", func() {
		if s.OuterMTU == 0 {
			return
		}
		w.Uint("outer", uint64(s.OuterMTU))
		w.Uint("inner", uint64(s.InnerMTU))
		if s.PathMTU != 0 {
			w.Uint("learnt", uint64(s.PathMTU))
			w.Uint("learnt-for", seconds(s.PathLeft))
		}
	})
	w.In("vrouter-sal:counters", func() {
		w.Uint("packets", s.Packets)
		w.Uint("bytes", s.Bytes)
		for _, x := range s.Errors {
			if x.Packets > 0 {
				w.Entry("error", []string{x.Reason}, func() { w.Uint("packets", x.Packets) })
			}
		}
	})
}

// current writes how long an SA has lived, as far as the model can count.
func current(w binding.Content, age, idle time.Duration, packets, bytes uint64) {
	w.Gauge("time", seconds(age), math.MaxUint32)
	w.Uint("bytes", bytes)
	w.Gauge("packets", packets, math.MaxUint32)
	w.Gauge("idle", seconds(idle), math.MaxUint32)
}

// writeLate writes the histogram of an inbound SA, and what it says about the
// window.
func writeLate(w *oper.Writer, s *ipsec.SAState) {
	if len(s.Late) == 0 {
		return
	}
	// A window of n holds what is at most n-1 behind.
	if last := s.Late[len(s.Late)-1]; last.From == 0 || last.To > 0 {
		w.Uint("window-needed", max(replay.MinSize, last.To+1))
	}
	for _, x := range s.Late {
		w.Entry("bucket", []string{strconv.FormatUint(x.From, 10)}, func() {
			if x.From == 0 || x.To > 0 {
				w.Uint("to", x.To)
			}
			w.Uint("packets", x.Packets)
			w.Uint("dropped", x.Dropped)
		})
	}
}

// bottom is the lowest sequence number of a window whose top is given; there is
// no number 0. A window that is off has no bottom but its top.
func bottom(top uint64, width uint32) uint64 {
	if width == 0 {
		return top
	}
	if top < uint64(width) {
		return min(1, top)
	}
	return top - uint64(width) + 1
}

// count gives the packets of an SA that were dropped for a reason.
func count(s *ipsec.SAState, reason string) uint64 {
	for _, x := range s.Errors {
		if x.Reason == reason {
			return x.Packets
		}
	}
	return 0
}

func seconds(d time.Duration) uint64 { return uint64(max(0, d) / time.Second) }
