package manifest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

// reportFolder tells people and the registry whether the folder can be read.
func (s *Source) reportFolder(err error) {
	now := time.Now()
	switch {
	case err == nil && !s.unreadable.IsZero():
		s.log.Info("the folder of manifests is back", "after", now.Sub(s.unreadable))
		s.unreadable, s.logged = time.Time{}, time.Time{}
	case err != nil:
		if s.unreadable.IsZero() {
			s.unreadable = now
		}
		if now.Sub(s.logged) >= faultLogInterval {
			s.logged = now
			s.log.Error("cannot read the folder of manifests, everything keeps its last state", "error", err)
		}
	}
	s.config.Registry.SetHealthy(err == nil)
	s.metrics.healthy.Set(map[bool]float64{true: 1}[err == nil])
	if s.folder.refused != s.refused {
		s.refused = s.folder.refused
		s.log.Error("too many manifest files, some are not read", "limit", MaxFiles, "not read", s.refused)
	}
}

// reportFile logs what is wrong with a file's new content.
func (s *Source) reportFile(f *file) {
	for _, fault := range f.faults {
		s.log.Error("manifest not loaded, its last good content stays",
			"at", fault.at(f.name), "problem", fault.what, "want", fault.want)
	}
	for _, kind := range f.ignored {
		s.log.Debug("objects that yield no names are passed over", "file", f.name, "kind", kind)
	}
}

func (f fault) at(file string) string {
	if f.line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, f.line)
}

// reportConflicts logs when an object is newly found in several places.
func (s *Source) reportConflicts(object registry.Object) {
	conflicts := s.claims.conflicts(object)
	for _, line := range conflicts {
		if !slices.Contains(s.conflicts[object], line) {
			s.log.Error("object in several manifests", "problem", line)
		}
	}
	if len(conflicts) == 0 {
		delete(s.conflicts, object)
	} else {
		s.conflicts[object] = conflicts
	}
}

// reportObjects logs new problems of the changed objects, with the place they are in.
func (s *Source) reportObjects(changes []source.Change, problems []source.Problem) {
	byObject := map[registry.Object][]source.Problem{}
	for _, problem := range problems {
		byObject[problem.Object] = append(byObject[problem.Object], problem)
	}
	for _, change := range changes {
		of := change.Object
		problems := slices.Concat(byObject[of], s.allocation.problemsOf(of))
		at := "gone"
		if claim, found := s.serving[change.Object]; found {
			at = claim.at()
		}
		for _, problem := range s.problems.Replace(of, problems) {
			level := slog.LevelWarn
			if problem.Effect == source.Rejected {
				level = slog.LevelError
			}
			s.log.Log(context.Background(), level, "problem in manifest", "at", at, "object", problem.Object.String(), "field", problem.Field,
				"problem", problem.What, "want", problem.Want, "effect", problem.Effect.String())
		}
	}
}

func (s *Source) measure() {
	errors := s.problems.Len() + s.refused
	objects := 0
	for _, file := range s.folder.files {
		errors += len(file.faults)
		objects += len(file.objects)
	}
	for _, conflicts := range s.conflicts {
		errors += len(conflicts)
	}
	s.metrics.files.Set(float64(len(s.folder.files)))
	s.metrics.objects.Set(float64(objects))
	s.metrics.errors.Set(float64(errors))
}
