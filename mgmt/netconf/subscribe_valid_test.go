package netconf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// yanglint, a checker that is not ours, finds all notifications valid by their
// modules: of each kind at least one. Only the targets of edits are left out, for
// they name instances, which may be gone.
func TestNotificationsAreValid(t *testing.T) {
	bin, err := exec.LookPath("yanglint")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs yanglint (Debian: yang-tools or libyang-tools)")
		}
		t.Skip("needs yanglint (Debian: yang-tools or libyang-tools)")
	}
	b := newBed(t, nil)
	l := b.open(alice).listen()
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	l.ok(subscribeTo("<startTime>" + past + "</startTime><stopTime>" + time.Now().Add(4*time.Second).UTC().Format(time.RFC3339Nano) + "</stopTime>"))
	l.ok(edit("running", iface("eth0", "")))
	l.ok(`<copy-config><target><startup/></target><source><running/></source></copy-config>`)
	change := func(text string) { l.ok(edit("candidate", iface("eth0", "<description>"+text+"</description>"))) }
	change("1")
	l.ok(`<commit><confirmed/></commit>`)
	change("2")
	l.ok(`<commit><confirmed/></commit>`)
	l.ok(`<cancel-commit/>`)
	change("3")
	l.ok(`<commit><confirmed/></commit>`)
	l.ok(`<commit/>`)
	change("4")
	l.ok(`<commit><confirmed/><confirm-timeout>1</confirm-timeout></commit>`)
	c := b.open(bob)
	l.ok(`<kill-session><session-id>` + c.id + `</session-id></kill-session>`)
	b.open(bob).ok(`<close-session/>`)

	dir, n := t.TempDir(), 0
	kinds := map[string]int{}
	target := regexp.MustCompile(`<target .*?</target>`)
	name := regexp.MustCompile(`</eventTime><([\w-]+)`)
	for {
		m := <-l.notes
		kind := name.FindStringSubmatch(m)[1]
		if e := regexp.MustCompile(`<(confirm-event|termination-reason|server|datastore)>(\w*)`).FindStringSubmatch(m); e != nil {
			kind += " " + e[2]
		}
		if strings.Contains(m, "<server/>") {
			kind += " server"
		}
		kinds[kind]++
		n++
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.xml", n)), []byte(target.ReplaceAllString(m, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(kind, "notificationComplete") {
			break
		}
	}
	for _, want := range []string{"netconf-config-change running", "netconf-config-change startup", "netconf-config-change running server",
		"netconf-confirmed-commit start", "netconf-confirmed-commit extend", "netconf-confirmed-commit cancel", "netconf-confirmed-commit complete",
		"netconf-confirmed-commit timeout", "netconf-session-start", "netconf-session-end killed", "netconf-session-end closed",
		"replayComplete", "notificationComplete"} {
		if kinds[want] == 0 {
			t.Errorf("no %s among %v", want, kinds)
		}
	}
	const yang = "../../yang"
	for i := range n {
		args := []string{"-p", yang, "-p", yang + "/ietf", "-t", "nc-notif", yang + "/ietf/ietf-netconf-notifications@2012-02-06.yang",
			yang + "/ietf/nc-notifications@2008-07-14.yang", filepath.Join(dir, fmt.Sprintf("%02d.xml", i+1))}
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil || len(out) > 0 {
			m, _ := os.ReadFile(args[len(args)-1])
			t.Errorf("%v %s\n%s", err, out, m)
		}
	}
}

// Who may not read a notification by the access rules does not get it, live or
// replayed, and it is counted; replayComplete is for everyone (RFC 8341 section
// 3.4.6).
func TestNotificationsByAccess(t *testing.T) {
	b := newBed(t, nil)
	began := time.Now().UTC().Format(time.RFC3339Nano)
	a := b.open(alice).listen()
	a.ok(edit("running", `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><groups><group><name>g</name><user-name>bob</user-name></group></groups>
		<rule-list><name>l</name><group>g</group><rule><name>r</name><module-name>ietf-netconf-notifications</module-name>
		<notification-name>netconf-config-change</notification-name><access-operations>read</access-operations><action>deny</action></rule></rule-list></nacm>`))
	c := b.open(bob)
	c.bob = true
	l := c.listen()
	l.ok(subscribeTo("<startTime>" + began + "</startTime>"))
	a.ok(edit("running", iface("eth0", "")))
	a.ok(`<close-session/>`)
	l.notesAre("<netconf-session-start>"+by(a.client)+"</netconf-session-start>", "<netconf-session-start>"+by(l.client)+"</netconf-session-start>",
		"<replayComplete/>", "<netconf-session-end>"+by(a.client)+"<termination-reason>closed</termination-reason></netconf-session-end>")
	if n := b.srv.access.DeniedNotifications.Load(); n != 2 {
		t.Error(n, "denied")
	}
}
