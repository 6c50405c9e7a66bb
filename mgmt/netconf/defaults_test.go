package netconf

import (
	"strings"
	"testing"
)

// The four modes of RFC 6243 on the same data, by get-config and get.
func TestWithDefaults(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	with := func(mode string) string {
		return `<with-defaults xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults">` + mode + `</with-defaults>`
	}
	read := func(mode string) [2]string {
		t.Helper()
		f := subtree(`<top xmlns="urn:test:behaviour"><low/><with-default/><only-when/></top>`)
		clean := strings.NewReplacer(` xmlns="urn:test:behaviour"`, "", ` xmlns:wd="urn:ietf:params:xml:ns:netconf:default:1.0"`, "")
		return [2]string{clean.Replace(c.data(getRunning(f + mode))), clean.Replace(c.data(`<get>` + f + mode + `</get>`))}
	}
	check := func(what string, want map[string]string) {
		t.Helper()
		for mode, w := range want {
			m := ""
			if mode != "" {
				m = with(mode)
			}
			for _, got := range read(m) {
				if got != w {
					t.Errorf("%s, %q:\ngot  %s\nwant %s", what, mode, got, w)
				}
			}
		}
	}
	c.ok(edit("running", top(`<low>2</low>`)))
	check("not set", map[string]string{
		"":                  `<top><low>2</low></top>`,
		"explicit":          `<top><low>2</low></top>`,
		"trim":              `<top><low>2</low></top>`,
		"report-all":        `<top><low>2</low><with-default>7</with-default></top>`,
		"report-all-tagged": `<top><low>2</low><with-default wd:default="true">7</with-default></top>`,
	})
	c.ok(edit("running", top(`<low>1</low><with-default>7</with-default>`)))
	check("set to the default, and a condition that holds", map[string]string{
		"":                  `<top><low>1</low><with-default>7</with-default></top>`,
		"explicit":          `<top><low>1</low><with-default>7</with-default></top>`,
		"trim":              `<top><low>1</low></top>`,
		"report-all":        `<top><low>1</low><with-default>7</with-default><only-when>now</only-when></top>`,
		"report-all-tagged": `<top><low>1</low><with-default>7</with-default><only-when wd:default="true">now</only-when></top>`,
	})
	c.ok(edit("running", top(`<with-default>8</with-default>`)))
	check("set to another value", map[string]string{
		"trim":       `<top><low>1</low><with-default>8</with-default></top>`,
		"report-all": `<top><low>1</low><with-default>8</with-default><only-when>now</only-when></top>`,
	})
	// By XPath a default is found where it is asked for.
	x := `<filter type="xpath" xmlns:b="urn:test:behaviour" select="/b:top/b:only-when"/>`
	if d := c.data(getRunning(x + with("report-all"))); d != `<top xmlns="urn:test:behaviour"><only-when>now</only-when></top>` {
		t.Error(d)
	}
	if d := c.data(getRunning(x)); d != "" {
		t.Error(d)
	}
	c.fails(getRunning(with("bogus")), "protocol/invalid-value /nc:rpc/nc:get-config/ietf-netconf-with-defaults:with-defaults")

	// A tagged leaf is written as not set (RFC 6243 section 4.5.2).
	c.ok(edit("running", `<top xmlns="urn:test:behaviour" xmlns:wd="urn:ietf:params:xml:ns:netconf:default:1.0"><with-default wd:default="true">7</with-default></top>`))
	check("tagged", map[string]string{"explicit": `<top><low>1</low></top>`})
	r := c.rpc(edit("running", `<top xmlns="urn:test:behaviour" xmlns:wd="urn:ietf:params:xml:ns:netconf:default:1.0"><with-default wd:default="true">9</with-default></top>`))
	if len(r.Errors) != 1 || r.Errors[0].Tag != "invalid-value" {
		t.Error("a tag on another value than the default: ", r.text)
	}
}
