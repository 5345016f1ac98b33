// Package page looks at the syncer's status page with a real browser. Build tag: browser.
package page
