package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"vrouter/mgmt/data"
)

func drops(root *data.Container) *table {
	t := newTable("no packet was dropped", column{"REASON", text}, column{"SEVERITY", state}, column{"PACKETS", number}, column{"IN ON", text}, column{"DESCRIPTION", text})
	for _, d := range entries(sub(root, "fastpath", "drops"), "drop") {
		var on []string
		for _, i := range entries(d, "interface") {
			on = append(on, val(i, "name")+" "+count(i, "packets"))
		}
		if num(d, "packets") > 0 {
			t.add(val(d, "reason"), val(d, "severity"), count(d, "packets"), strings.Join(on, ", "), val(d, "description"))
		}
	}
	return t
}

func dataPlane(root *data.Container) *table {
	t := newTable("the data plane is not running", column{"WHAT", text}, column{"VALUE", text})
	f := sub(root, "fastpath")
	if !has(sub(f, "process"), "pid") { // the number of restarts is there all the same
		return t
	}
	line := func(name string, path ...string) {
		if v := val(f, path...); v != "" {
			t.add(name, v)
		}
	}
	line("process id", "process", "pid")
	t.add("started", moment(val(f, "process", "start-time")))
	line("restarts", "process", "restarts")
	line("configuration", "process", "revision")
	for _, w := range entries(f, "workers") {
		text := fmt.Sprintf("%s packets in %s bursts, slept %s times", count(w, "packets"), count(w, "bursts"), count(w, "sleeps"))
		if cpu := val(w, "cpu"); cpu != "" {
			text += ", on CPU " + cpu
		}
		t.add("worker "+val(w, "id"), text)
	}
	for _, l := range []string{"total", "free", "in-use", "cached", "ports", "waiting", "in-flight"} {
		line("buffers "+l, "buffers", l)
	}
	for _, l := range []string{"total", "free", "in-use", "cached"} {
		line("large buffers "+l, "buffers", "large", l)
	}
	for _, l := range []string{"size", "entries", "hits", "misses"} {
		line("flow cache "+l, "flow-cache", l)
	}
	return t
}

func workers(root *data.Container) *table {
	t := newTable("the data plane is not running", column{"WORKER", number}, column{"BOUND TO", number}, column{"RUNS ON", number}, column{"LOAD", number},
		column{"PACKETS", number}, column{"FLOWS", number}, column{"GIVEN", number}, column{"TAKEN", number}, column{"SENT BY OTHERS", number}, column{"QUEUES", text})
	for _, w := range entries(sub(root, "fastpath"), "workers") {
		load := val(w, "load")
		if load != "" {
			load += " %"
		}
		var queues []string
		for _, q := range entries(w, "queue") {
			s := val(q, "interface") + "/" + val(q, "number")
			if val(q, "spread") == "true" {
				s += "*" // shared out to all
			}
			queues = append(queues, s)
		}
		t.add(val(w, "id"), val(w, "cpu"), val(w, "runs-on"), load, count(w, "packets"), count(w, "flows"), count(w, "given"), count(w, "taken"),
			count(w, "sent-by-others"), strings.Join(queues, " "))
	}
	return t
}

func engines(root *data.Container) *table {
	t := newTable("no engines", column{"ENGINE", text}, column{"KIND", text}, column{"USES", text}, column{"READY", state}, column{"MODES", text},
		column{"ALGORITHMS", text}, column{"SAS", number}, column{"MAX SAS", number}, column{"ERRORS", number})
	for _, e := range entries(sub(root, "sal"), "engine") {
		ready := "no"
		if val(e, "ready") == "true" {
			ready = "yes"
		}
		switch {
		case val(e, "health", "failed") == "true":
			ready = "failed"
		case val(e, "health", "drained") == "true":
			ready = "drained"
		}
		t.add(val(e, "name"), val(e, "kind"), val(e, "isa"), ready, strings.Join(values(e, "mode"), " "), strings.Join(values(e, "algorithm"), " "),
			count(e, "sas"), val(e, "max-sas"), count(e, "errors"))
	}
	return t
}

func tenants(root *data.Container) *table {
	t := newTable("no tenant groups", column{"GROUP", text}, column{"SAS", number}, column{"OF", number}, column{"PACKETS/S", number}, column{"OCTETS/S", number},
		column{"PACKETS", number}, column{"OCTETS", number}, column{"DROPPED", number})
	for _, g := range entries(sub(root, "sal"), "tenant-group") {
		t.add(val(g, "name"), count(g, "use", "sas"), or(val(g, "max-sas"), "any"), or(val(g, "packets-per-second"), "any"), or(val(g, "bytes-per-second"), "any"),
			count(g, "use", "packets"), count(g, "use", "bytes"), count(g, "use", "dropped"))
	}
	return t
}

func sessions(root *data.Container) *table {
	t := newTable("no sessions", column{"SESSION", number}, column{"TRANSPORT", text}, column{"USER", text}, column{"FROM", text}, column{"SINCE", text},
		column{"RPCS", number}, column{"BAD RPCS", number})
	l := entries(sub(root, "netconf-state", "sessions"), "session")
	slices.SortFunc(l, func(a, b *data.Container) int { return cmp.Compare(num(a, "session-id"), num(b, "session-id")) })
	for _, s := range l {
		t.add(val(s, "session-id"), bare(val(s, "transport")), val(s, "username"), or(val(s, "source-host"), "local"), moment(val(s, "login-time")), count(s, "in-rpcs"), count(s, "in-bad-rpcs"))
	}
	return t
}

func commits(root *data.Container) *table {
	t := newTable("no versions", column{"BACK", number}, column{"VERSION", number}, column{"TIME", text}, column{"KIND", text}, column{"USER", text}, column{"SESSION", text})
	for i, c := range versions(root) {
		t.add(fmt.Sprint(i), val(c, "sequence"), moment(val(c, "time")), val(c, "kind"), val(c, "user"), val(c, "session-id"))
	}
	return t
}

// versions gives the versions of running, the latest first.
func versions(root *data.Container) []*data.Container {
	l := entries(sub(root, "commits"), "commit")
	slices.SortFunc(l, func(a, b *data.Container) int { return cmp.Compare(num(b, "sequence"), num(a, "sequence")) })
	return l
}
