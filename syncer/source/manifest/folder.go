package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// folder is the files of the manifests' folder as they were last read.
type folder struct {
	dir   string
	more  []kind // That are read, beside those that always are.
	files map[string]*file
	// limit bounds the number of files, and refused are those beyond.
	limit, refused int
	// loaded says that the folder was read once. waiting is since when reading it again waits for
	// writers; zero when it does not.
	loaded  bool
	waiting time.Time
}

// entry is a manifest that is there.
type entry struct {
	linked bool
	info   fs.FileInfo // Of the link's target. Nil: it leads nowhere.
}

// list looks at the folder, by name. An error says that nothing is known of what it holds.
func (f *folder) list() (map[string]entry, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	found := map[string]entry{}
	vanished := false
	for _, e := range entries {
		if !isManifest(e.Name()) {
			continue
		}
		linked := e.Type()&fs.ModeSymlink != 0
		info, err := os.Stat(filepath.Join(f.dir, e.Name()))
		switch {
		case err == nil && info.IsDir():
		case err == nil:
			found[e.Name()] = entry{linked, info}
		case errors.Is(err, fs.ErrNotExist) && !linked:
			vanished = true
		default:
			found[e.Name()] = entry{linked, nil}
		}
	}
	if vanished {
		// With its folder, perhaps. Then its absence says nothing.
		if _, err := os.Stat(f.dir); err != nil {
			return nil, err
		}
	}
	return found, nil
}

const (
	// quiet is how long nothing must happen to a file or folder before writing is taken for over.
	quiet = 40 * time.Millisecond
	// emptyQuiet is the same for a file that held objects and is empty: writers empty a file before
	// they fill it, and what it held must not go meanwhile.
	emptyQuiet = 500 * time.Millisecond
	// maxWait bounds how long writers are waited for.
	maxWait = time.Second
)

// maxPasses bounds how often a folder that goes on changing is read before what was read counts.
const maxPasses = 4

// refresh reads what has changed and returns the names of files whose content is new, changed or
// gone, in order. What is gone is in f no longer. It reads again until nothing more changes, so that
// files that are replaced together, as a ConfigMap's are, are read together.
func (f *folder) refresh() ([]string, error) {
	all := map[string]bool{}
	for range maxPasses {
		changed, again, err := f.pass()
		if err != nil && len(all) == 0 {
			return nil, fmt.Errorf("read folder %s: %w", f.dir, withoutPath(err))
		}
		if len(changed) == 0 && !again { // Or an error, which the next look meets again.
			break
		}
		for _, name := range changed {
			all[name] = true
		}
	}
	f.loaded = true
	return slices.Sorted(maps.Keys(all)), nil
}

// pass reads once what has changed. again says that something changed while it was read.
func (f *folder) pass() (changed []string, again bool, err error) {
	now := time.Now()
	found, err := f.list()
	if err != nil || f.waits(found, now) {
		return nil, false, err
	}
	for name := range f.files {
		if _, there := found[name]; !there {
			delete(f.files, name)
			changed = append(changed, name)
		}
	}
	f.refused = 0
	for _, name := range slices.Sorted(maps.Keys(found)) {
		known := f.files[name]
		if known == nil {
			if len(f.files) >= f.limit {
				f.refused++
				continue
			}
			known = &file{name: name, more: f.more}
			f.files[name] = known
		}
		info := found[name].info
		known.linked = found[name].linked
		if info != nil && known.unchanged(info) {
			continue
		}
		switch known.reload(filepath.Join(f.dir, name), info, now) {
		case other:
			changed = append(changed, name)
		case writing:
			f.waiting, again = now, true
		case same:
		}
	}
	return changed, again, nil
}

// waits reports whether somebody is still writing. Then nothing is read, so that no half of a change
// is taken for the whole.
func (f *folder) waits(found map[string]entry, now time.Time) bool {
	writing := false
	for name, entry := range found {
		known := f.files[name]
		if entry.info == nil || known != nil && known.unchanged(entry.info) {
			continue
		}
		rest := quiet
		if entry.info.Size() == 0 && known != nil && len(known.objects) > 0 {
			rest = emptyQuiet
		}
		age := now.Sub(entry.info.ModTime())
		writing = writing || age >= 0 && age < rest
	}
	switch {
	case !writing || !f.loaded || !f.waiting.IsZero() && now.Sub(f.waiting) > maxWait:
		f.waiting = time.Time{}
	case f.waiting.IsZero():
		f.waiting = now
	}
	return !f.waiting.IsZero()
}

// linkedFolders are the folders that symbolic links among the manifests lead to, other than the
// manifests' own. Links into folders that are not there are left out.
func (f *folder) linkedFolders() []string {
	own, err := filepath.EvalSymlinks(f.dir)
	if err != nil {
		return nil
	}
	var folders []string
	for name, file := range f.files {
		if !file.linked {
			continue
		}
		dir, err := linkedFolder(filepath.Join(f.dir, name))
		if err == nil && dir != own && !slices.Contains(folders, dir) {
			folders = append(folders, dir)
		}
	}
	return folders
}

// linkedFolder is the folder that a symbolic link leads into. Its target need not be there: it may
// come back.
func linkedFolder(link string) (string, error) {
	if target, err := filepath.EvalSymlinks(link); err == nil {
		return filepath.Dir(target), nil
	}
	target, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(link), target)
	}
	return filepath.EvalSymlinks(filepath.Dir(target))
}
