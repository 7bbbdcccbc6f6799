package blob

// PretendMissing makes d believe what it would learn from a poorer file
// system: that there is no RENAME_NOREPLACE and, if asked, no hard link.
func PretendMissing(d *Dir, link bool) {
	d.noReplaceMissing.Store(true)
	d.linkMissing.Store(link)
}

// PretendBuffered makes d believe that its file system has no direct I/O.
func PretendBuffered(d *Dir) { d.noDirect.Store(true) }

// PretendMute makes d believe that its kernel cannot say what the page cache has.
func PretendMute(d *Dir) { d.noAsking.Store(true) }

// BreakDirect makes every direct call of f fail, as a disk may do at any
// time, but does not tell f.
func BreakDirect(f *File) {
	if file := f.directFile(); file != nil {
		file.Close()
	}
}

// IsDirect says that f has gone past the page cache and met no refusal.
func IsDirect(f *File) bool { return f.direct.Load() != nil && !f.refused.Load() }
