"""What a model's developer does: find the package, link, copy the ten lines of the README."""

import re
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from bridge_tools import LAUNCHER, run

from halocline.run.bridge_config import BridgeConfig, GenerateConfig, ObserveConfig

C_HOST = """
#include <halocline.h>
int main(void) { return halocline_status_name(HALOCLINE_PEER)[0] != 'p' || halocline_version()[0] == 0; }
"""
FORTRAN_HOST = """
program host
  use halocline
  implicit none
  if (halocline_status_name(HALOCLINE_PEER) /= 'peer') error stop 1
end program host
"""
CMAKE_HOST = """
cmake_minimum_required(VERSION 3.22)
project(ocean LANGUAGES C CXX Fortran)
find_package(Halocline 0.1 REQUIRED)
add_executable(c_host host.c)
target_link_libraries(c_host PRIVATE Halocline::halocline)
add_executable(fortran_host host.f90)
target_link_libraries(fortran_host PRIVATE Halocline::fortran)
"""

# What surrounds the lines of the README in a model of 4 x 3 x 2 cells on one rank.
FORTRAN_MODEL = """
program ocean
  use mpi_f08
{use}
  implicit none
  integer, parameter :: ni = 4, nj = 3, nk = 2, i0 = 1, j0 = 1, date = 10101, last = 3
  double precision, parameter :: time_step = 3600
  double precision, target :: t(0:ni + 1, 0:nj + 1, nk), s(0:ni + 1, 0:nj + 1, nk), tmask(0:ni + 1, 0:nj + 1, nk)
  integer :: step = 0
  type(MPI_Comm) :: comm
{declarations}
  tmask = 1
  call MPI_Init()
  comm = MPI_COMM_WORLD
{lines}
  print '(a,i0)', 'last step ', step
  call MPI_Finalize()
contains
  subroutine advance(step)
    integer, intent(inout) :: step
    step = step + 1
  end subroutine advance
end program ocean
"""
CPP_MODEL = """
#include <mpi.h>
#include <cstdint>
#include <cstdio>
#include <vector>
{includes}
static void advance(std::int64_t) {{}}
int main(int argc, char **argv) {{
  MPI_Init(&argc, &argv);
  MPI_Comm comm = MPI_COMM_WORLD;
  const int ni = 4, nj = 3, nk = 2, nx = ni, ny = nj, i0 = 0, j0 = 0, date = 10101;
  const std::int64_t last = 3;
  const double time_step = 3600;
  std::int64_t step = 0;
  std::vector<double> t((nx + 2) * (ny + 2) * nk), mask(t.size(), 1.0);
{lines}
  std::printf("last step %d\\n", static_cast<int>(step));
  MPI_Finalize();
}}
"""


def blocks(readme: str, language: str) -> list[str]:
    """The code of a language in a text in Markdown."""
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.M | re.S)


def succeed(*command: object, cwd: Path, **environment: str) -> str:
    status, output = run(*command, limit=120, cwd=cwd, **environment)
    assert status == 0, output
    return output


def flags(package: str, cwd: Path) -> list[str]:
    path = str(Path(sys.prefix) / "lib" / "pkgconfig")
    return succeed("pkg-config", "--cflags", "--libs", package, cwd=cwd, PKG_CONFIG_PATH=path).split()


@pytest.fixture
def sources(bridge: Path, tmp_path: Path) -> Path:
    (tmp_path / "host.c").write_text(C_HOST)
    (tmp_path / "host.f90").write_text(FORTRAN_HOST)
    return tmp_path


def test_find_package_gives_what_c_and_fortran_hosts_need(sources: Path) -> None:
    (sources / "CMakeLists.txt").write_text(CMAKE_HOST)
    succeed("cmake", "-S", ".", "-B", "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={sys.prefix}", cwd=sources)
    succeed("cmake", "--build", "build", cwd=sources)
    succeed("build/c_host", cwd=sources)
    succeed("build/fortran_host", cwd=sources)


def test_pkg_config_gives_what_c_and_fortran_hosts_need(sources: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    succeed("mpicc", "host.c", "-o", "c_host", *flags("halocline", sources), cwd=sources)
    succeed("mpifort", "host.f90", "-o", "fortran_host", *flags("halocline-fortran", sources), cwd=sources)
    succeed("./c_host", cwd=sources)
    succeed("./fortran_host", cwd=sources)


def test_the_package_can_be_moved(sources: Path) -> None:
    """Nothing in it names the folder in which it was installed."""
    moved = sources / "elsewhere"
    for folder in ("lib/cmake/Halocline", "lib/pkgconfig", "include/halocline"):
        shutil.copytree(Path(sys.prefix) / folder, moved / folder)
    shutil.copy(Path(sys.prefix) / "include" / "halocline.h", moved / "include")
    for library in Path(sys.prefix, "lib").glob("libhalocline*"):
        shutil.copy(library, moved / "lib")
    for file in (*(moved / "lib/cmake/Halocline").iterdir(), *(moved / "lib/pkgconfig").iterdir()):
        assert sys.prefix not in file.read_text(), file
    (sources / "CMakeLists.txt").write_text(CMAKE_HOST)
    succeed("cmake", "-S", ".", "-B", "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={moved}", cwd=sources)
    succeed("cmake", "--build", "build", cwd=sources)
    assert str(moved) in succeed("ldd", "build/c_host", cwd=sources)


@pytest.mark.parametrize("language", ["fortran", "cpp"])
def test_the_lines_of_the_readme_are_a_model(bridge: Path, tmp_path: Path, language: str) -> None:
    (code,) = blocks((bridge / "README.md").read_text(), language)
    own = [line for line in code.splitlines() if line.strip()]
    if language == "fortran":
        text = FORTRAN_MODEL.format(use=own[0], declarations=own[1], lines="\n".join(own[2:]))
        command = ["mpifort", "-std=f2018", "-Wall", "ocean.f90", *flags("halocline-fortran", tmp_path)]
        (tmp_path / "ocean.f90").write_text(text)
    else:
        text = CPP_MODEL.format(includes=own[0], lines="\n".join(own[1:]))
        command = ["mpicxx", "-Wall", "-Wextra", "ocean.cpp", *flags("halocline", tmp_path)]
        (tmp_path / "ocean.cpp").write_text(text)
    (tmp_path / "halocline.yaml").write_text("{}")
    succeed(*command, "-o", "ocean", cwd=tmp_path)
    assert "last step 3" in succeed("./ocean", cwd=tmp_path, **LAUNCHER)


def test_the_first_screen_has_the_code(bridge: Path) -> None:
    lines = (bridge / "README.md").read_text().splitlines()
    assert max(i for i, line in enumerate(lines) if line.startswith("mpirun")) > 0
    assert [line for line in lines[:50] if line.startswith("```")].count("```fortran") == 1
    assert "```cpp" in lines[:50]


def test_the_readme_knows_every_key_of_the_configuration(bridge: Path) -> None:
    text = (bridge / "README.md").read_text()
    keys = [key.name for key in fields(BridgeConfig) if key.name not in ("generate", "observe")]
    keys += [f"generate.{key.name}" for key in fields(GenerateConfig)]
    keys += [f"observe.{key.name}" for key in fields(ObserveConfig)]
    assert not [key for key in keys if f"`{key}`" not in text]
