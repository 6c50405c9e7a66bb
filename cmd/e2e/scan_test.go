package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/google/gopacket/layers"

	"vrouter/cmd/internal/lab"
)

// A scan of the IPv6 prefix of a LAN, many times as fast as the router may send
// solicitations, keeps nobody from being found: hosts that were never spoken to
// get their first packet, those that were known stay, while the scan goes on.
func TestNeighbourScan(t *testing.T) {
	b := newIPBed(t)
	b.configure("")
	address := func(n *lab.NS, dev string) string {
		out, err := n.Run("cat", "/sys/class/net/"+dev+"/address")
		if err != nil {
			t.Fatal(err)
		}
		return out[:17]
	}
	b.answered("2001:db8:2:2::2") // n2 and the host are known
	frame := wanFrame(t, address(b.vr.NS, "wan1"), address(b.n1, "eth0"), &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolNoNextHeader,
		SrcIP: net.ParseIP("2001:db8:2:1::2"), DstIP: net.ParseIP("2001:db8:1::1:0:0")})
	n := uint32(0)
	const rate = 20000
	scan := b.flood(b.n1, "eth0", rate, func() []byte {
		n++
		binary.BigEndian.PutUint32(frame[14+24+12:], n)
		return frame
	})
	for scan.sent.Load() < rate { // every table and bucket is full by now
		if out, err := b.n2.Run("ping", "-n", "-c", "1", "-W", "3", "2001:db8:1::2"); err != nil {
			t.Fatalf("a known neighbour: %v\n%s", err, out)
		}
	}
	for i := range 20 {
		addr := fmt.Sprintf("2001:db8:1::a:%x", i+1)
		if err := b.host.IP("addr add " + addr + "/64 dev eth0 nodad"); err != nil {
			t.Fatal(err)
		}
		before := scan.sent.Load()
		// One packet: it waits for its neighbour's address and goes, or is lost.
		if out, err := b.n2.Run("ping", "-n", "-c", "1", "-W", "3", addr); err != nil {
			t.Errorf("a new neighbour: %v\n%s", err, out)
		}
		if scan.sent.Load() == before {
			t.Errorf("nothing was scanned meanwhile")
		}
	}
	sent := scan.end(t)
	d := b.drops(b.vr)
	t.Logf("%d packets of a scan; drops %v", sent, d)
	if d["neighbour-limit"] < sent/2 {
		t.Errorf("only %d of %d packets of the scan were held off", d["neighbour-limit"], sent)
	}
	b.buffersAccounted()
}
