"""Names for runs and logged models that nobody named: an adjective, an animal and a number."""

from __future__ import annotations

from secrets import choice, randbelow

_ADJECTIVES = """
agile amber ample brave breezy bright brisk calm candid clever cosmic crisp curious daring dapper deft eager early
earnest fair fancy fleet fond frank fresh gentle glad golden grand happy hardy honest humble jolly keen kind lively
loyal lucid lucky mellow merry mighty misty modest neat nimble noble patient placid plucky polite proud quick quiet
rapid ready robust royal rustic serene sharp silver smart snug solid spry steady stout sunny swift tender tidy
tranquil trusty upbeat vivid warm wise witty zesty
"""
_ANIMALS = """
ant badger bat bear beaver bee bison boar bull camel carp cat cod colt crab crane cricket crow deer dolphin donkey
dove duck eagle eel elk emu falcon ferret finch fish fox frog gecko gnu goat goose gull hare hawk hen heron horse
ibex jay kite koala lamb lark lemur lion llama lynx mink mole moose moth mouse mule newt otter owl ox panda perch
pike pony puffin quail rabbit ram raven robin rook salmon seal shark sheep shrew skink sloth snail sparrow squid
stork swan tapir tern tiger toad trout tuna turtle viper vole whale wolf wombat wren yak zebra
"""
ADJECTIVES = tuple(_ADJECTIVES.split())
ANIMALS = tuple(_ANIMALS.split())


def make_name() -> str:
    """Such as `brave-otter-417`. Not unique: an id is."""
    return f"{choice(ADJECTIVES)}-{choice(ANIMALS)}-{randbelow(1000)}"
