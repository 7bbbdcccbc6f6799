package blob

// PretendMissing makes d believe what it would learn from a poorer file
// system: that there is no RENAME_NOREPLACE and, if asked, no hard link.
func PretendMissing(d *Dir, link bool) {
	d.noReplaceMissing.Store(true)
	d.linkMissing.Store(link)
}
