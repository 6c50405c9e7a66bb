package netconf

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/netconf/frame"
	"vrouter/mgmt/netconf/transport"
)

// A tool on this machine comes in by a unix socket; the server's own user is
// admin.
func TestUnixSocket(t *testing.T) {
	b := newBed(t, nil)
	path := filepath.Join(t.TempDir(), "netconf")
	l, err := transport.ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.srv.ServeUnix(b.ctx, l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := &client{t: t, conn: conn, r: frame.NewReader(conn, 1<<20), w: frame.NewWriter(conn)}
	c.hello(base11)
	c.ok(edit("running", iface("eth0", "")))
	d := c.data(`<get>` + subtree(`<netconf-state xmlns="`+nsMonitoring+`"><sessions/></netconf-state>`) + `</get>`)
	if strings.Contains(d, "source-host") || !strings.Contains(d, "<username>") {
		t.Error(d)
	}
	c.ok(`<delete-config><target><startup/></target></delete-config>`)
	b.stop()
	c.gone()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
