package nstest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// iperf reads what iperf3 -J says.
func iperf(t testing.TB, out string) (received float64, retransmits int) {
	t.Helper()
	var r struct {
		End struct {
			Received struct{ Bytes float64 }   `json:"sum_received"`
			Sent     struct{ Retransmits int } `json:"sum_sent"`
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	return r.End.Received.Bytes, r.End.Sent.Retransmits
}

// Counter reads a counter of the namespace's network stack by its name in
// /proc/net/snmp or netstat, as TcpInCsumErrors.
func (n *NS) Counter(name string) string {
	n.t.Helper()
	lines := strings.Split(n.Run("cat", "/proc/net/snmp", "/proc/net/netstat"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		proto, names, _ := strings.Cut(lines[i], ":")
		_, values, _ := strings.Cut(lines[i+1], ":")
		v := strings.Fields(values)
		for k, x := range strings.Fields(names) {
			if proto+x == name && k < len(v) {
				return v[k]
			}
		}
	}
	n.t.Fatalf("no counter %s", name)
	return ""
}

// waitListen waits until somebody listens on a TCP port.
func (n *NS) waitListen(port string) {
	n.t.Helper()
	for range 500 {
		if strings.Contains(n.Run("ss", "-ltnH"), ":"+port+" ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatalf("nobody listens on port %s", port)
}
