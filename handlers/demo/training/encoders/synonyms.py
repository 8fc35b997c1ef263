"""Words that may stand for one another, and the sentences of a text written again with them."""

from __future__ import annotations

import random
import re

GROUPS = """
big=large=huge=enormous=giant;small=little=tiny=miniature;fast=quick=rapid=speedy;slow=sluggish=unhurried;
happy=glad=cheerful=joyful;
sad=unhappy=sorrowful=gloomy;angry=furious=mad=annoyed;tired=exhausted=sleepy=weary;afraid=scared=frightened;
clever=smart=intelligent=bright;
stupid=foolish=dumb=silly;beautiful=pretty=lovely=gorgeous;ugly=hideous=unattractive;good=great=excellent=fine;
bad=poor=awful=terrible;
delicious=tasty=yummy;cheap=inexpensive=affordable;expensive=costly=dear=pricey;easy=simple=effortless;
difficult=hard=tough=tricky;
important=essential=significant=crucial;famous=well-known=renowned=celebrated;rich=wealthy=affluent;
old=aged=ancient=elderly;new=recent=fresh=modern;
strong=powerful=mighty;weak=feeble=frail;sick=ill=unwell;healthy=fit=well;broken=damaged=defective=faulty;
dirty=filthy=unclean;clean=spotless=tidy;
quiet=silent=calm;loud=noisy=deafening;hot=warm=boiling;cold=cool=chilly=freezing;wet=damp=soaked;
dangerous=risky=unsafe=hazardous;safe=secure=protected;
strange=odd=weird=unusual;funny=amusing=comical=hilarious;boring=dull=tedious;interesting=fascinating=exciting;
wonderful=amazing=fantastic=marvellous;
friendly=kind=nice=pleasant;rude=impolite=unfriendly;whole=entire=complete;empty=vacant=bare;wrong=incorrect=mistaken;
correct=right=accurate;
buy=purchase=get=acquire;buys=purchases=gets;bought=purchased=acquired=got;buying=purchasing;sell=vend=offer;
sold=vended;begin=start=commence;
began=started=commenced;starts=begins=commences;end=finish=conclude;ended=finished=concluded;ends=finishes;
help=assist=support=aid;helps=assists=supports;
helped=assisted=supported;repair=fix=mend;repaired=fixed=mended;repairs=fixes=mends;repairing=fixing=mending;
build=construct=erect;
built=constructed=erected;make=create=produce;made=created=produced;makes=creates=produces;destroy=ruin=wreck;
destroyed=ruined=wrecked;
show=display=present;shows=displays=presents;showed=displayed=presented;speak=talk=chat;spoke=talked;speaking=talking;
say=state=tell;said=stated=told;
ask=inquire=question;asked=inquired;answer=reply=respond;answered=replied=responded;look=gaze=stare;
looked=gazed=stared;see=notice=spot;
saw=noticed=spotted;hear=listen;find=discover=locate;found=discovered=located;search=look for=seek;lose=misplace;
lost=misplaced;choose=pick=select;
chose=picked=selected;walk=stroll=wander;walked=strolled=wandered;walking=strolling;run=sprint=race;ran=sprinted=raced;
running=sprinting=jogging;
jump=leap=hop;jumped=leapt=hopped;jumps=leaps=hops;fall=drop=tumble;fell=dropped=declined=tumbled;
rise=increase=climb=go up;rose=increased=climbed=went up;
grew=increased=expanded;shrink=decrease=get smaller;eat=consume=have;eats=consumes;ate=consumed=had;eating=consuming;
drink=sip;drank=sipped;
cook=prepare=make;cooked=prepared=made;cooking=preparing food;sleep=rest=doze;slept=rested=dozed;
sleeping=resting=dozing;sleeps=rests=dozes;
wake=get up;cry=weep=sob;cried=wept=sobbed;laugh=giggle=chuckle;laughed=giggled=chuckled;shout=yell=scream;
shouted=yelled=screamed;
throw=toss=hurl;threw=tossed=hurled;catch=grab=seize;caught=grabbed=seized;hit=strike=beat;hold=grip;
carry=transport=bring;carried=transported=brought;
send=mail=ship=dispatch;sent=mailed=shipped=dispatched;receive=get=obtain;received=got=obtained;arrive=come=show up;
arrived=came=showed up;
leave=depart=go away;left=departed=went away;leaves=departs=goes;return=come back=go back;returned=came back=went back;
visit=go to see=call on;
visited=went to see;travel=journey=go;travelled=journeyed=went;live=reside=dwell;lives=resides=dwells;lived=resided;
work=labour=toil;
works=functions=operates;teach=instruct=educate;teaches=instructs;taught=instructed=educated;learn=study;
learned=studied;learns=studies;
win=triumph=succeed;won=triumphed=came first;fight=struggle=battle;fought=struggled=battled;stop=halt=cease;
stopped=halted=ceased;stops=halts;
change=alter=modify;changed=altered=modified;improve=better=enhance;improved=bettered=enhanced;delete=remove=erase;
deleted=removed=erased;
cancel=call off=terminate;cancelled=called off=terminated;allow=permit=let;allowed=permitted;forbid=ban=prohibit;
forbidden=banned=prohibited=not allowed;
need=require;needs=requires;needed=required;want=wish=desire;wants=wishes=desires;wanted=wished=desired;
like=enjoy=love;likes=enjoys=loves;liked=enjoyed=loved;
hate=dislike=detest;hates=dislikes=detests;think=believe=suppose;thinks=believes=supposes;thought=believed=supposed;
know=be aware;understand=grasp=comprehend;
understood=grasped=comprehended;explain=describe=clarify;explained=described=clarified;try=attempt;tried=attempted;
tries=attempts;keep=retain=store;
hide=conceal;hid=concealed;clean=wash=tidy up;cleaned=washed=tidied;cut=slice=chop;save=rescue;saved=rescued;
protect=guard=defend;protects=guards=defends;
connect=link=join;connected=linked=joined;collect=gather;collected=gathered;reduce=lower=decrease;
reduced=lowered=decreased;increase=raise=boost;
increased=raised=boosted;lasts=takes;contains=holds=includes;need to=have to=must;error=mistake=fault;
errors=mistakes=faults;problem=issue=trouble=difficulty;
problems=issues=troubles=difficulties;car=automobile=vehicle=motor car;cars=automobiles=vehicles;bicycle=bike=cycle;
plane=aeroplane=aircraft=airplane;
boat=ship=vessel;house=home=residence;houses=homes;flat=apartment;street=road=avenue;town=city=municipality;
village=settlement;
child=kid=youngster;children=kids=youngsters;boy=lad=young man;girl=young woman;man=gentleman=guy;woman=lady;
baby=infant=newborn;people=persons=folk;
person=human=individual;friend=pal=buddy=companion;friends=pals=buddies;mother=mom=mum;father=dad;
grandmother=grandma=granny;grandfather=grandpa;
wife=spouse;husband=spouse;boss=manager=chief=supervisor;worker=employee=labourer;workers=employees=staff;
doctor=physician=medic;teacher=instructor=educator;
pupil=student=schoolchild;lawyer=attorney=solicitor;job=occupation=profession=position;
company=firm=business=enterprise;shop=store;shops=stores;
customer=client=buyer;customers=clients=buyers;money=cash=funds;price=cost;salary=wage=pay;gift=present;
food=nourishment=groceries;meal=dish;
dinner=supper=evening meal;lunch=midday meal;breakfast=morning meal;dog=hound=canine;cat=feline;kitten=young cat;
puppy=young dog;horse=steed;pig=hog;
rabbit=bunny;illness=disease=sickness;medicine=drug=medication;movie=film=motion picture;movies=films;
picture=image=photo;pictures=images=photos;
song=tune=melody;songs=tunes;story=tale=narrative;book=volume;newspaper=paper=daily;letter=note=message;message=note;
word=term=expression;
language=tongue;garden=yard;forest=woods=woodland;sea=ocean;mountain=peak;stone=rock;holiday=vacation=trip;
journey=trip=voyage;party=celebration=festivity;
game=match;team=squad;idea=thought=concept;plan=scheme;test=exam=examination;country=nation=state;war=conflict;
king=monarch=ruler;
clothes=clothing=garments;trousers=pants;jumper=sweater=pullover;sofa=couch;carpet=rug;rubbish=trash=garbage=waste;
lift=elevator;autumn=fall;
petrol=gas=fuel;mobile=phone=cell phone;phone=telephone;television=TV=telly;computer=PC=machine;
laptop=notebook computer;password=login=passcode;
photo=photograph=picture;flight=plane trip;refund=money back=reimbursement;bill=invoice;delivery=shipment;
package=parcel;autumn=fall;
quickly=fast=rapidly=swiftly;slowly=gradually;often=frequently=regularly;sometimes=occasionally=now and then;
always=constantly=all the time;never=at no time;
now=at present=currently;today=this day;soon=shortly=before long;immediately=at once=right away=instantly;
again=once more;almost=nearly;
very=extremely=really;also=too=as well;maybe=perhaps=possibly;because=since=as;but=however=yet;
about=approximately=around;many=lots of=numerous=plenty of;
ill=sick=unwell;hungry=starving;thirsty=parched;wedding=marriage ceremony;cinema=movie theatre;pharmacy=drugstore;
motorway=highway=freeway;
reach=arrive at=get to;worn=used;tap=faucet;holidays=vacation;invented=devised=created;wrote=authored=penned;
painted=drew;discovered=found;
located=situated=found;sunny=bright;rainy=wet;storm=tempest;snowy=white;tasty=delicious;huge=gigantic=immense;
shares=stocks;earn=make;costs=is priced at
"""


def _table(groups: str) -> dict[str, list[str]]:
    """Word → the others of its groups; only single words are looked up, several may be written for one."""
    found: dict[str, list[str]] = {}
    for group in groups.replace("\n", "").split(";"):
        words = [word.strip() for word in group.split("=")]
        for word in words:
            known = found.setdefault(word, [])
            known += [other for other in words if other != word and other not in known]
    return {word: others for word, others in found.items() if " " not in word}


SYNONYMS = _table(GROUPS)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def reworded(text: str, rng: random.Random, share: float = 0.6) -> str:
    """The text with a share of the words that have synonyms exchanged; names (capitals within) stay."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        is_first = match.start() == 0
        others = SYNONYMS.get(word.lower() if is_first else word)
        if others is None or rng.random() > share:
            return word
        chosen = rng.choice(others)
        return chosen[0].upper() + chosen[1:] if is_first and word[0].isupper() else chosen

    return WORD.sub(other, text)
